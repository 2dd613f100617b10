"""git's own maintenance of the mirrors: in idle moments, one mirror at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from stackit import Reactor, StackitError
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.worker import MirrorWorker

PERIOD = 15.0
"""Seconds between two looks for an idle moment."""
WORN = 25
"""Fetches after which maintenance may be worth its while."""
TIDIED = 5
"""Mirrors from which leftovers are removed at each look, while the disk is nearly full."""


class MaintenanceSchedule:
    """Looks after the mirror that was fetched into most, while no push is being brought.

    And removes leftovers of all while the disk is nearly full, as nothing is fetched then that would.
    """

    def __init__(self, reactor: Reactor, workers: Sequence[MirrorWorker], disk: DiskReserve, slots: FetchSlots) -> None:
        self._workers = workers
        self._disk = disk
        self._slots = slots
        self._next = 0
        self._loop = LoopingCall(self._turn)
        self._loop.clock = reactor  # type: ignore[assignment]  # Twisted asks for a zope interface

    def start(self) -> None:
        self._loop.start(PERIOD, now=False)

    def stop(self) -> None:
        """What runs, runs as a round of its worker, and ends with it."""
        if self._loop.running:
            self._loop.stop()

    def _turn(self) -> Deferred[None] | None:
        if self._disk.is_short:
            self._tidy()
        # A remote that hangs, or a clone that takes hours, must not keep all mirrors from it.
        if self._slots.pushing:
            return None
        idle = [worker for worker in self._workers if not worker.rounds.busy]
        fetches_since_maintenance = max(idle, key=lambda worker: worker.fetches_since_maintenance, default=None)
        if fetches_since_maintenance is None or fetches_since_maintenance.fetches_since_maintenance < WORN:
            return None
        return Deferred.fromCoroutine(self._look_after(fetches_since_maintenance))

    def _tidy(self) -> None:
        """Some of them at a time, as it reads many folders."""
        for worker in self._workers[self._next : self._next + TIDIED]:
            with contextlib.suppress(OSError):  # its next round tells what it is
                worker.tidy()
        self._next = self._next + TIDIED if self._next + TIDIED < len(self._workers) else 0

    async def _look_after(self, worker: MirrorWorker) -> None:
        try:
            await worker.maintain()
        except (StackitError, OSError):
            return  # a push came first, or git cannot now, which the next round will tell: it is tried again
