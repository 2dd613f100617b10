"""What a mirror's refs are, and telling exactly how they differ from what was told before."""

from __future__ import annotations

from collections.abc import Iterable

from stackit import App, ManagedRepo, RefChange
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.repository.ref_changes import changes_between
from stackit.plugins.mirror.sync.refresh import Refresher


class RefAnnouncer:
    """Tells of the refs of one mirror. ``cause`` and ``delivery`` are why they may have moved."""

    def __init__(self, app: App, git: Git, managed: ManagedRepo, refresher: Refresher) -> None:
        self.refs = Snapshot()
        """All refs, as they were last seen or moved."""
        self._announced: Snapshot | None = None
        self._app = app
        self._git = git
        self._managed = managed
        self._refresher = refresher

    @property
    def has_baseline(self) -> bool:
        """Whether it is known in this process what was told before it."""
        return self._announced is not None

    @property
    def all_announced(self) -> bool:
        """Whether everything that is known of the refs has been told."""
        return self._announced == self.refs

    async def announce_all(self, cause: str, delivery: str | None) -> tuple[RefChange, ...]:
        """Read all refs, and tell how they differ from what was told; returns the differences. Raises StackitError."""
        if not self._refresher.directory.exists():
            return ()  # nothing is there to compare, which is not the same as: everything was deleted
        self.refs = now = await self._refresher.refs()
        if now == self._announced:
            return ()
        before = await self._app.announced(self._managed.repo)
        changes = await changes_between(self._git, self._refresher.directory, before, now.as_dict())
        if changes:
            await self._announce(changes, cause, delivery)
        self._announced = now
        return changes

    async def announce_only(self, refs: Iterable[str], cause: str, delivery: str | None) -> tuple[RefChange, ...]:
        """The same where only these refs can have moved, and all was settled: the others are not read."""
        names = list(refs)
        now = (await self._refresher.refs(names)).as_dict()
        if now.keys() != set(names):
            return await self.announce_all(cause, delivery)  # somebody deleted one, who may have done more
        before = {ref: oid for ref in names if (oid := self.refs.get(ref)) is not None}
        changes = await changes_between(self._git, self._refresher.directory, before, now)
        await self.announce_moves(changes, cause, delivery)
        return changes

    async def announce_moves(self, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        """Tell that these refs, and no others, were created or updated since all was settled."""
        if changes:
            self._announced = None  # until it is said
            self.refs = self.refs.moved(changes)
            await self._announce(changes, cause, delivery)
            self._announced = self.refs

    async def _announce(self, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        if self._managed.keep_forced:
            await self._refresher.keep(changes)
        await self._app.announce(self._managed.repo, changes, cause, delivery)
