"""The mirrors of the managed repositories, each with its worker: made, changed and given up as the registry says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from twisted.internet.defer import DeferredList

from stackit import App, ManagedRepo, Occurrence, Repo, ReposChange, TokenSource
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.pushes import PushHandler
from stackit.plugins.mirror.remote.remotes import Remotes
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fsck import FsckSlots
from stackit.plugins.mirror.repository.history_cache import HistoryCache
from stackit.plugins.mirror.repository.leftovers import SAFE_AGE, mirrors_on_disk, remove_leftovers
from stackit.plugins.mirror.schedule.backstop import BackstopSchedule
from stackit.plugins.mirror.settings import MirrorSettings
from stackit.plugins.mirror.sync.clock import ClockConverter
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.requests import Unmanaged
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.plugins.mirror.sync.worker import MirrorWorker


class Mirrors:
    """The workers by ``Repo.key``, and a handler of pushes for each.

    ``directory`` holds the mirrors, ``disk`` is its reserve.
    """

    def __init__(
        self,
        app: App,
        directory: Path,
        git: Git,
        *,
        slots: FetchSlots,
        disk: DiskReserve,
        settings: MirrorSettings,
        tunables: Tunables,
    ) -> None:
        self._remotes = Remotes(app.reactor, 2 * settings.concurrency, now=app.now)
        self._app = app
        self._directory = directory
        self._git = git
        self._slots = slots
        self._disk = disk
        self._settings = settings
        self._tunables = tunables
        self._histories, self._clock = HistoryCache(), ClockConverter(app.reactor, app.now)
        self._fsck_slots = FsckSlots(app.reactor)
        self._workers: dict[str, MirrorWorker] = {}
        self._pushes: dict[str, PushHandler] = {}
        self._stopped = False
        self._leaving: dict[str, MirrorWorker] = {}  # of repositories that are managed no more: a last round runs
        for managed in app.repos:
            self._make(managed)
        self.schedule = BackstopSchedule(app.reactor, tuple(self), app.sync_interval)

    def __iter__(self) -> Iterator[MirrorWorker]:
        return iter(tuple(self._workers.values()))

    def __len__(self) -> int:
        return len(self._workers)

    def worker(self, key: str) -> MirrorWorker | None:
        """Return the worker of a managed repository, by its ``Repo.key``."""
        return self._workers.get(key)

    def pushes(self, key: str) -> PushHandler | None:
        """Return the handler of the pushes of a managed repository."""
        return self._pushes.get(key)

    def prepare(self) -> None:
        """Clean every mirror that is on disk, before any round."""
        found = mirrors_on_disk(self._directory)
        for worker in self:
            self._prepare(worker, found)

    def change(self, change: ReposChange) -> None:
        """Follow a change of the registry: clone what is new, give up what is managed no more."""
        found = mirrors_on_disk(self._directory) if change.added or change.changed else {}
        for managed in change.removed:
            self._remove(managed.repo.key)
        for managed in change.changed:
            worker = self._workers.get(managed.repo.key)
            if worker is not None and worker.managed.repo == managed.repo:
                worker.change(managed, self._remotes.get(managed))
            else:  # its name is spelled in another way now, and so is its folder
                self._remove(managed.repo.key)
                self._add(managed, found)
        for managed in change.added:
            self._add(managed, found)

    def access_returned(self, source: TokenSource) -> None:
        """Ask the remotes that have their tokens from this source: it gives some again."""
        for worker in self:
            if worker.managed.token_source is source and not self._stopped:
                worker.access_returned()

    def stop(self) -> None:
        """Start no more rounds, and end what only waits; rounds that run go on."""
        self._stopped = True
        for worker in self:
            worker.stop()
        self.schedule.stop()

    def cancel(self) -> None:
        """Cancel the rounds that run."""
        for worker in self:
            worker.rounds.cancel()

    def change_settings(self, settings: MirrorSettings) -> None:
        """Take other settings, from the next fetch on."""
        self._settings = settings
        self._git.most_memory = settings.git_memory
        self._disk.reserve = settings.reserve
        self._slots.change(settings.concurrency)
        self._remotes.change_size(2 * settings.concurrency)
        for worker in self:
            worker.change_settings(settings)

    async def finish(self) -> None:
        """Wait until no round runs any more, also of what was given up, and close the connections."""
        await DeferredList([worker.rounds.idle() for worker in (*self, *self._leaving.values())])
        await self._remotes.close()

    def _make(self, managed: ManagedRepo) -> MirrorWorker:
        key = managed.repo.key
        self._workers[key] = worker = MirrorWorker(
            self._app,
            self._git,
            self._slots,
            managed,
            self._settings,
            fsck_slots=self._fsck_slots,
            disk=self._disk,
            tunables=self._tunables,
            remote=self._remotes.get(managed),
        )
        self._pushes[key] = PushHandler(self._app, self._git, worker, self._histories, self._clock, self._tunables)
        return worker

    def _add(self, managed: ManagedRepo, found: Mapping[str, Path]) -> None:
        if managed.repo.key in self._workers or managed.repo.key in self._leaving:
            return  # it was given up a moment ago, and its last round still works in the folder: see _left
        worker = self._make(managed)
        self._prepare(worker, found)
        self.schedule.add(worker)
        self.schedule.check_now(worker)

    def _remove(self, key: str) -> None:
        worker = self._workers.pop(key, None)
        if worker is None:
            return
        del self._pushes[key]
        self.schedule.remove(worker)
        worker.stop(Unmanaged)
        self._leaving[key] = worker
        worker.rounds.idle().addCallback(lambda _: self._left(worker.managed.repo))
        worker.rounds.cancel()

    def _left(self, repo: Repo) -> None:
        """Forget a worker whose last round has ended; the repository may be managed again by now."""
        del self._leaving[repo.key]
        managed = self._app.repos.get(repo)
        if managed is not None and not self._stopped:
            self._add(managed, mirrors_on_disk(self._directory))

    def _prepare(self, worker: MirrorWorker, found: Mapping[str, Path]) -> None:
        """Move and clean a mirror that is among those ``found`` on disk, perhaps under an earlier spelling."""
        known = found.get(worker.managed.repo.path.lower())
        if known is None:
            return
        with contextlib.suppress(OSError):  # it concerns one mirror only, whose first round reports the reason
            if known != worker.directory and not worker.directory.exists():
                worker.directory.parent.mkdir(parents=True, exist_ok=True)
                known.rename(worker.directory)
            removed = remove_leftovers(worker.directory, before=self._app.now() - SAFE_AGE)
            if removed:
                reason = f"removed {removed} leftovers of a git that was killed"
                self._app.observe(Occurrence(name="healed", repo=worker.managed.repo, reason=reason, count=removed))
