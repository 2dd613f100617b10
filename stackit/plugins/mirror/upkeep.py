"""git's own maintenance of the mirrors: in idle moments, one mirror at a time."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from stackit import Reactor, StackitError
from stackit.plugins.mirror.keeper import Keeper

PERIOD = 15.0
"""Seconds between two looks for an idle moment."""
WORN = 25
"""Fetches after which maintenance may be worth its while."""


class Upkeep:
    """Looks after the mirror that was fetched into most, while none is being fetched into."""

    def __init__(self, reactor: Reactor, keepers: Sequence[Keeper]) -> None:
        self._keepers = keepers
        self._loop = LoopingCall(self._turn)
        self._loop.clock = reactor

    def start(self) -> None:
        self._loop.start(PERIOD, now=False)

    def stop(self) -> None:
        """What runs, runs as a round of its keeper, and ends with it."""
        if self._loop.running:
            self._loop.stop()

    def _turn(self) -> Deferred[None] | None:
        if not self._keepers or any(keeper.rounds.busy for keeper in self._keepers):
            return None
        worn = max(self._keepers, key=lambda keeper: keeper.worn)
        if worn.worn < WORN:
            return None
        return Deferred.fromCoroutine(self._look_after(worn))

    async def _look_after(self, keeper: Keeper) -> None:
        try:
            await keeper.maintain()
        except (StackitError, OSError):
            return  # a push came first, or git cannot now, which the next round will tell: it is tried again
