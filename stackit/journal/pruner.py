"""The service that keeps the journal small, at one node of a fleet at a time."""

from __future__ import annotations

from collections.abc import Callable

from stackit.api.errors import JournalError
from stackit.api.nodes import Alone, Nodes
from stackit.api.periodic import Periodic
from stackit.api.reactor import Timers
from stackit.journal.protocol import JournalProtocol

INTERVAL = 60.0
"""Seconds between two rounds."""
_ROUND = "retention"


class Pruner(Periodic):
    """Prunes the journal once a minute, in small steps, so that no delivery waits for it."""

    def __init__(
        self,
        *,
        reactor: Timers,
        now: Callable[[], float],
        journal: JournalProtocol,
        nodes: Nodes = Alone(),  # noqa: B008 - it has no state
    ) -> None:
        super().__init__(reactor, INTERVAL, self._round)
        self._nodes = nodes
        self._now = now
        self._journal = journal

    async def _round(self) -> None:
        # The timers of nodes are not in step: each asks as often, and a little less than the interval has to be over.
        if not await self._nodes.round(_ROUND, INTERVAL * 0.9):
            return
        try:
            while self.running and await self._journal.prune(self._now()):
                pass
        except JournalError:
            pass  # /readyz tells why; the next round tries again
