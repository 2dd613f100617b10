"""When the backstop looks at which repository: all at once at start, later each at a time of its own."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import CancelledError, Deferred, DeferredList

from stackit import Reactor, StackitError, sleep
from stackit.plugins.mirror.sync.phase import phase
from stackit.plugins.mirror.sync.worker import MirrorWorker

SPREAD = 0.95
"""The part of the interval over which a round of looks spreads: evenly, with a moment for the last ones to end."""
ENOUGH = 0.98
"""The part of the interval after which a round is over, so that it never keeps the next one from starting."""

GRAIN = 1 / 20
"""Looks whose turns are within this part of the interval, at most a second, go together: the machine wakes once."""


class BackstopSchedule:
    """Looks at every repository, once in ``interval`` seconds (0: only when asked)."""

    def __init__(self, reactor: Reactor, workers: Sequence[MirrorWorker], interval: float) -> None:
        self._reactor = reactor
        self._turns = sorted(((phase(each.managed.repo.key), each) for each in workers), key=lambda turn: turn[0])
        self._interval = interval
        self._has_run = False
        self._checks: dict[str, Deferred[None]] = {}
        self._walking: Deferred[None] | None = None

    async def run(self) -> None:
        """Sync every repository and wait for all, but no longer than the interval.

        A large first clone may take longer: it goes on, while the next round looks at all the others. A
        remote that fails is no failure of the looking: each sync tells how it ended, and the repository's
        state keeps the reason.
        """
        over = SPREAD * self._interval if self._has_run else 0.0
        cause = "backstop" if self._has_run else "start"
        self._has_run = True
        if self._walking is not None:
            self._walking.cancel()  # a round that was held up: this one looks at what it did not
        self._walking = walking = Deferred.fromCoroutine(self._walk(cause, over))
        waited: Deferred[None] = Deferred()

        def all_started(_: object) -> None:
            everyone = DeferredList(list(self._checks.values()))
            everyone.addCallback(lambda _: None if waited.called else waited.callback(None))

        walking.addBoth(all_started)
        enough = None
        if self._interval:
            enough = self._reactor.callLater(ENOUGH * self._interval, waited.callback, None)
        try:
            await waited
        except CancelledError:
            walking.cancel()
            for look in list(self._checks.values()):
                look.cancel()
            raise
        finally:
            if enough is not None and enough.active():
                enough.cancel()

    async def _walk(self, cause: str, over: float) -> None:
        """Start each look when it is its turn."""
        grain = min(1.0, GRAIN * self._interval)
        began = self._reactor.seconds()
        until = 0.0
        for place, worker in self._turns:
            due = over * place
            if due > until:
                wait = began + due - self._reactor.seconds()
                if wait > 0:
                    await sleep(self._reactor, wait)
                until = due + grain
            if worker.managed.repo.key not in self._checks:
                self._start(worker, cause, over * place)

    def _start(self, worker: MirrorWorker, cause: str, place: float) -> None:
        key = worker.managed.repo.key
        look = Deferred.fromCoroutine(self._look(worker, cause, place))
        if look.called:
            return
        self._checks[key] = look

        def ended(_: object) -> None:
            del self._checks[key]

        look.addBoth(ended)

    async def _look(self, worker: MirrorWorker, cause: str, place: float) -> None:
        while not worker.status.paused() and worker.quiet_until > (now := self._reactor.seconds()):
            # Those whose turn it was meanwhile are spread anew, or the silence would end with all of them at once.
            await sleep(self._reactor, worker.quiet_until - now + place)
        if worker.status.paused():
            return
        try:
            if cause == "start" or not await worker.is_unchanged():
                await worker.sync(cause)
        except StackitError:
            return  # it has been told, and is in the repository's state
