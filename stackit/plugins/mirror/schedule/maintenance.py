"""The schedule of git's own maintenance: one mirror at a time, while no push is fetched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from stackit import StackitError, Timers
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.worker import MirrorWorker

PERIOD = 15.0
"""Seconds between two checks for an idle moment."""
FETCHES_BEFORE_MAINTENANCE = 25
"""Fetches after which maintenance is worth it."""
TIDIED = 5
"""Mirrors from which leftovers are removed at each check, while the disk is nearly full."""


class MaintenanceSchedule:
    """Maintains the mirror with the most fetches since its last maintenance.

    While the disk is nearly full, it removes leftovers from all mirrors: no fetch starts then, which else would.
    ``workers`` returns those that there are at the time.
    """

    def __init__(
        self, reactor: Timers, workers: Callable[[], Iterable[MirrorWorker]], disk: DiskReserve, slots: FetchSlots
    ) -> None:
        self._workers = workers
        self._disk = disk
        self._slots = slots
        self._next = 0
        self._loop = LoopingCall(self._check)
        self._loop.clock = reactor  # type: ignore[assignment]  # Twisted asks for a zope interface

    def start(self) -> None:
        self._loop.start(PERIOD, now=False)

    def stop(self) -> None:
        """Start no more maintenance. One that runs is a round of its worker, and ends with that."""
        if self._loop.running:
            self._loop.stop()

    def _check(self) -> Deferred[None] | None:
        if self._disk.is_short:
            self._tidy()
        # Only pushes count: a remote that hangs, or a clone that takes hours, does not put maintenance off.
        if self._slots.pushing:
            return None
        idle = [worker for worker in self._workers() if not worker.rounds.busy]
        fetches_since_maintenance = max(idle, key=lambda worker: worker.fetches_since_maintenance, default=None)
        if (
            fetches_since_maintenance is None
            or fetches_since_maintenance.fetches_since_maintenance < FETCHES_BEFORE_MAINTENANCE
        ):
            return None
        return Deferred.fromCoroutine(self._maintain(fetches_since_maintenance))

    def _tidy(self) -> None:
        """Remove leftovers from the next few mirrors: it reads many folders."""
        workers = tuple(self._workers())
        for worker in workers[self._next : self._next + TIDIED]:
            with contextlib.suppress(OSError):  # its next round reports the reason
                worker.tidy()
        self._next = self._next + TIDIED if self._next + TIDIED < len(workers) else 0

    async def _maintain(self, worker: MirrorWorker) -> None:
        try:
            await worker.maintain()
        except (StackitError, OSError):
            return  # a push came first, or git failed, which the next round reports: it is tried again
