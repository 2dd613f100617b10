"""git's own maintenance of the mirrors: in idle moments, one mirror at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from stackit import Reactor, StackitError
from stackit.plugins.mirror.repository.disk_space import Room
from stackit.plugins.mirror.sync.fetch_slots import Places
from stackit.plugins.mirror.sync.worker import Keeper

PERIOD = 15.0
"""Seconds between two looks for an idle moment."""
WORN = 25
"""Fetches after which maintenance may be worth its while."""
TIDIED = 5
"""Mirrors from which leftovers are removed at each look, while the disk is nearly full."""


class Upkeep:
    """Looks after the mirror that was fetched into most, while no push is being brought.

    And removes leftovers of all while the disk is nearly full, as nothing is fetched then that would.
    """

    def __init__(self, reactor: Reactor, keepers: Sequence[Keeper], room: Room, places: Places) -> None:
        self._keepers = keepers
        self._room = room
        self._places = places
        self._next = 0
        self._loop = LoopingCall(self._turn)
        self._loop.clock = reactor  # type: ignore[assignment]  # Twisted asks for a zope interface

    def start(self) -> None:
        self._loop.start(PERIOD, now=False)

    def stop(self) -> None:
        """What runs, runs as a round of its keeper, and ends with it."""
        if self._loop.running:
            self._loop.stop()

    def _turn(self) -> Deferred[None] | None:
        if self._room.is_short:
            self._tidy()
        # A remote that hangs, or a clone that takes hours, must not keep all mirrors from it.
        if self._places.pushing:
            return None
        idle = [keeper for keeper in self._keepers if not keeper.rounds.busy]
        worn = max(idle, key=lambda keeper: keeper.worn, default=None)
        if worn is None or worn.worn < WORN:
            return None
        return Deferred.fromCoroutine(self._look_after(worn))

    def _tidy(self) -> None:
        """Some of them at a time, as it reads many folders."""
        for keeper in self._keepers[self._next : self._next + TIDIED]:
            with contextlib.suppress(OSError):  # its next round tells what it is
                keeper.tidy()
        self._next = self._next + TIDIED if self._next + TIDIED < len(self._keepers) else 0

    async def _look_after(self, keeper: Keeper) -> None:
        try:
            await keeper.maintain()
        except (StackitError, OSError):
            return  # a push came first, or git cannot now, which the next round will tell: it is tried again
