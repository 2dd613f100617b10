"""When the backstop looks at which repository: all at once at start, later each at a time of its own."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.task import deferLater

from stackit import Reactor, StackitError
from stackit.plugins.mirror.keeper import Keeper
from stackit.plugins.mirror.phase import phase

SPREAD = 0.8
"""The part of the interval over which a round of looks spreads; the rest is for the last ones to end."""


class Rota:
    """Looks at every repository, once in ``interval`` seconds (0: only when asked)."""

    def __init__(self, reactor: Reactor, keepers: Sequence[Keeper], interval: float) -> None:
        self._reactor = reactor
        self._keepers = keepers
        self._interval = interval
        self._looked = False
        self._looks: dict[str, Deferred[None]] = {}

    async def look(self) -> None:
        """Sync every repository and wait for all, but no longer than the interval.

        A large first clone may take longer: it goes on, while the next round looks at all the others. A
        remote that fails is no failure of the looking: each sync tells how it ended, and the repository's
        state keeps the reason.
        """
        over = SPREAD * self._interval if self._looked else 0.0
        cause = "backstop" if self._looked else "start"
        self._looked = True
        for keeper in self._keepers:
            if keeper.managed.repo.key not in self._looks:
                self._start(keeper, cause, over)
        looks = list(self._looks.values())
        waited: Deferred[None] = Deferred()
        everyone = DeferredList(looks)
        everyone.addCallback(lambda _: None if waited.called else waited.callback(None))
        enough = self._reactor.callLater(self._interval, waited.callback, None) if self._interval else None
        try:
            await waited
        except CancelledError:
            for look in looks:
                look.cancel()
            raise
        finally:
            if enough is not None and enough.active():
                enough.cancel()

    def _start(self, keeper: Keeper, cause: str, over: float) -> None:
        key = keeper.managed.repo.key
        look = Deferred.fromCoroutine(self._look(keeper, cause, over))
        self._looks[key] = look

        def ended(_: object) -> None:
            del self._looks[key]

        look.addBoth(ended)

    async def _look(self, keeper: Keeper, cause: str, over: float) -> None:
        if over:
            await deferLater(self._reactor, over * phase(keeper.managed.repo.key))
        if keeper.standing.paused(self._reactor.seconds()):
            return
        try:
            await keeper.sync(cause)
        except StackitError:
            return  # it has been told, and is in the repository's state
