"""git's maintenance of a mirror, and the removal of leftovers when the disk is nearly full."""

from __future__ import annotations

import math

from twisted.internet.defer import CancelledError

from stackit import App, ManagedRepo, Occurrence, StackitError
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fetch_cleanup import FetchCleanup
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.repository.leftovers import SAFE_AGE, is_in_use, remove_leftovers
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.sync.clone import Cloner
from stackit.plugins.mirror.sync.tamper_watch import TamperWatch


class Housekeeping:
    """Maintenance of the mirror that ``repository`` is."""

    def __init__(
        self,
        app: App,
        git: Git,
        managed: ManagedRepo,
        repository: Repository,
        *,
        cloner: Cloner,
        disk: DiskReserve,
        growth: Growth,
        tampering: TamperWatch,
    ) -> None:
        self._app = app
        self._git = git
        self._managed = managed
        self._repository = repository
        self._directory = repository.directory
        self._cloner = cloner
        self._disk = disk
        self._growth = growth
        self._tampering = tampering

    async def maintain(self) -> None:
        """Run git's own maintenance, and remove old leftovers. Raises StackitError, also if it was cancelled."""
        if not self._directory.exists():
            return
        try:
            await self._maintain()
        except GitError as problem:
            if problem.kind != "memory":
                raise
            # It would need as much at every idle moment.
            reason = f"maintenance is put off: {problem}"
            self._app.observe(Occurrence(name="notice", repo=self._managed.repo, reason=reason))
        except CancelledError:
            raise StackitError("maintenance was ended for something more urgent") from None

    async def _maintain(self) -> None:
        remove_leftovers(self._directory, before=self._app.now() - SAFE_AGE)
        self._cloner.discard()
        if self._tampering.check():
            return  # the next full round reads all objects first, so that nothing broken is packed
        self._tampering.begin()
        await self._repository.pack_refs()
        cleanup = FetchCleanup(self._git, self._directory, self._app.reactor, self._app.now)
        try:
            await self._disk.supervise(self._pack_objects(), lambda: cleanup.size)
        except (GitError, CancelledError):
            cleanup.clear_files(locks=True)
            raise
        self._tampering.end()

    async def _pack_objects(self) -> None:
        if self._growth.is_too_much:
            await self._repository.repack()
            self._growth.reset()
        await self._repository.maintain()

    def make_room(self) -> None:
        """Remove leftovers if the disk is nearly full. Raises StackitError if it still is."""
        if self._disk.is_short:
            self.tidy()
            self._disk.check()

    def tidy(self) -> None:
        """Remove leftovers. No round may run in this mirror."""
        before = self._app.now() - SAFE_AGE if is_in_use(self._directory) else math.inf
        removed = remove_leftovers(self._directory, before=before) + self._cloner.discard_all()
        if removed:
            reason = f"the disk is nearly full: {removed} leftovers were removed"
            self._app.observe(Occurrence(name="healed", repo=self._managed.repo, reason=reason, count=removed))
