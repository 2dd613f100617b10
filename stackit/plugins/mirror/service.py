"""The start and stop of the mirrors: leftovers are removed first, and no git outlives the stop."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList

from stackit import App, Occurrence, StackitError
from stackit.plugins.mirror.remote.remotes import Remotes
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.leftovers import (
    SAFE_AGE,
    mirrors_on_disk,
    remove_leftovers,
    remove_partial_clones,
)
from stackit.plugins.mirror.schedule.maintenance import MaintenanceSchedule
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.worker import MirrorWorker


class MirrorService(Service):
    """Removes leftovers at start. At stop, rounds may end within the grace, and are ended then."""

    def __init__(
        self,
        app: App,
        mirrors: Path,
        workers: Sequence[MirrorWorker],
        remotes: Remotes,
        disk: DiskReserve,
        slots: FetchSlots,
    ) -> None:
        self._app = app
        self._mirrors = mirrors
        self._workers = workers
        self._remotes = remotes
        self._maintenance = MaintenanceSchedule(app.reactor, workers, disk, slots)

    def startService(self) -> None:
        Service.startService(self)
        remove_partial_clones(self._mirrors)
        found = mirrors_on_disk(self._mirrors)
        for worker in self._workers:
            known = found.get(worker.managed.repo.path.lower())
            if known is not None:
                # A failure concerns one mirror only, and its first round reports the reason.
                with contextlib.suppress(OSError):
                    self._prepare(worker, known)
        if self._workers and not any(worker.managed.token_file for worker in self._workers):
            reason = "no credentials: only public repositories refresh"
            self._app.observe(Occurrence(name="notice", reason=reason))
        if not self._app.sync_interval:
            # Without a backstop, no first round announces the changes before this start.
            Deferred.fromCoroutine(self._compare())
        self._maintenance.start()

    async def _compare(self) -> None:
        """Announce the changes of each mirror, one after the other."""
        for worker in self._workers:
            if worker.directory.exists() and not worker.rounds.busy:
                with contextlib.suppress(StackitError, OSError):  # its next round reports the reason
                    await worker.compare()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        self._maintenance.stop()
        for worker in self._workers:
            worker.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # The pushes that waited for a round had the grace. A git that is ended gets a moment of its own.
        for worker in self._workers:
            worker.rounds.cancel()
        await DeferredList([worker.rounds.idle() for worker in self._workers])
        await self._remotes.close()

    def _prepare(self, worker: MirrorWorker, known: Path) -> None:
        """Move and clean a mirror. ``known`` is its folder, perhaps in an earlier spelling of the name."""
        if known != worker.directory and not worker.directory.exists():
            worker.directory.parent.mkdir(parents=True, exist_ok=True)
            known.rename(worker.directory)
        removed = remove_leftovers(worker.directory, before=self._app.now() - SAFE_AGE)
        if removed:
            reason = f"removed {removed} leftovers of a git that was killed"
            self._app.observe(Occurrence(name="healed", repo=worker.managed.repo, reason=reason, count=removed))
