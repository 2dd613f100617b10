"""The service that keeps the journal small, at one node of a fleet at a time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from stackit.api.errors import JournalError
from stackit.api.nodes import Alone, Nodes
from stackit.api.reactor import Timers, looping_call
from stackit.journal.protocol import JournalProtocol

INTERVAL = 60.0
_ROUND = "retention"


class Pruner(Service):
    """Prunes the journal once a minute, in small steps, so that no delivery waits for it."""

    def __init__(
        self,
        *,
        reactor: Timers,
        now: Callable[[], float],
        journal: JournalProtocol,
        nodes: Nodes = Alone(),  # noqa: B008 - it has no state
    ) -> None:
        self._nodes = nodes
        self._now = now
        self._journal = journal
        self._loop = looping_call(reactor, lambda: Deferred.fromCoroutine(self._round()))

    def startService(self) -> None:
        Service.startService(self)
        self._loop.start(INTERVAL, now=True)

    def stopService(self) -> None:
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

    async def _round(self) -> None:
        # The timers of nodes are not in step: each asks as often, and a little less than the interval has to be over.
        if not await self._nodes.round(_ROUND, INTERVAL * 0.9):
            return
        try:
            while self.running and await self._journal.prune(self._now()):
                pass
        except JournalError:
            pass  # /readyz tells why; the next round tries again
