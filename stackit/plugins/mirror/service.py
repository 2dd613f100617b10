"""The mirrors' start and stop: nothing of an earlier run in the way, no git left behind."""

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
    """Clears the place at start; at stop lets rounds end within the grace, and ends those that do not."""

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
                # A mirror that cannot be tidied is one repository's trouble: its first round will say what it is.
                with contextlib.suppress(OSError):
                    self._prepare(worker, known)
        if self._workers and not any(worker.managed.token_file for worker in self._workers):
            reason = "no credentials: only public repositories refresh"
            self._app.observe(Occurrence(name="notice", reason=reason))
        if not self._app.sync_interval:
            # No first look of the backstop tells what changed before this start.
            Deferred.fromCoroutine(self._compare())
        self._maintenance.start()

    async def _compare(self) -> None:
        """One after the other, as nobody waits for it."""
        for worker in self._workers:
            if worker.directory.exists() and not worker.rounds.busy:
                with contextlib.suppress(StackitError, OSError):  # its next round says what it is
                    await worker.compare()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        self._maintenance.stop()
        for worker in self._workers:
            worker.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # Whoever waits for a round had the grace for it. git gets a moment of its own when it is ended.
        for worker in self._workers:
            worker.rounds.cancel()
        await DeferredList([worker.rounds.idle() for worker in self._workers])
        await self._remotes.close()

    def _prepare(self, worker: MirrorWorker, known: Path) -> None:
        """``known`` is the mirror, which may lie under a spelling of its name that is no longer the configured one."""
        if known != worker.directory and not worker.directory.exists():
            worker.directory.parent.mkdir(parents=True, exist_ok=True)
            known.rename(worker.directory)
        removed = remove_leftovers(worker.directory, before=self._app.now() - SAFE_AGE)
        if removed:
            reason = f"removed {removed} leftovers of a git that was killed"
            self._app.observe(Occurrence(name="healed", repo=worker.managed.repo, reason=reason, count=removed))
