"""The announcements of ref changes: each exactly once, compared with the refs that were announced before."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from stackit import App, ManagedRepo, RefChange, StackitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.repository.ref_diff import changes_between
from stackit.plugins.mirror.sync.refresh import Refresher


class RefAnnouncer:
    """Announces the ref changes of one mirror. ``cause`` and ``delivery`` are those of the round that moved them.

    One that was ``inherited`` from another node may be older than what was announced. Nothing is announced of it before
    all of its refs were compared with the remote, or it is known to have exactly the refs that were announced.
    """

    def __init__(
        self, app: App, git: Git, managed: ManagedRepo, refresher: Refresher, *, inherited: bool = False
    ) -> None:
        self.inherited = inherited
        """True until what is on disk is known to be as new as what was announced."""
        self.refs = Snapshot()
        """All refs, as they were last read or moved."""
        self._announced: Snapshot | None = None
        self._app = app
        self._git = git
        self.managed = managed
        self._refresher = refresher
        self._closed: Callable[[], StackitError] | None = None

    def close(self, error: Callable[[], StackitError]) -> None:
        """Announce nothing more: it fails with ``error()``. Whoever goes on with the mirror compares its refs."""
        self._closed = error

    @property
    def has_baseline(self) -> bool:
        """True once this process has compared the refs with those that were announced before its start."""
        return self._announced is not None

    @property
    def all_announced(self) -> bool:
        """True if every known change of a ref has been announced."""
        return self._announced == self.refs

    async def announce_all(self, cause: str, delivery: str | None) -> tuple[RefChange, ...]:
        """Read all refs, and announce and return the changes since the last announcement. Raises StackitError."""
        if not self._refresher.directory.exists():
            return ()  # a mirror that is missing does not mean that all refs were deleted
        if self.inherited:
            return ()  # a ref that is older here than what was announced does not mean that it went back
        self.refs = now = await self._refresher.refs()
        if now == self._announced:
            return ()
        before = await self._app.announced(self.managed.repo)
        changes = await changes_between(self._git, self._refresher.directory, before, now.as_dict())
        if changes:
            await self._announce(changes, cause, delivery)
        self._announced = now
        return changes

    async def take_over(self) -> bool:
        """Go on from what was announced elsewhere; False if the mirror has not exactly those refs. Raises StackitError.

        A ref that was not announced has been deleted since this mirror was left behind, and is deleted here.
        """
        await self._refresher.fetch_kept()
        announced = await self._app.announced(self.managed.repo)
        if not announced or not self._refresher.directory.exists():
            return False
        now = await self._refresher.refs()
        have = now.as_dict()
        if have == announced:
            self.refs = self._announced = now
            self.inherited = False
            return True
        await self._refresher.delete({ref: oid for ref, oid in have.items() if ref not in announced})
        return False

    async def announce_only(self, refs: Iterable[str], cause: str, delivery: str | None) -> tuple[RefChange, ...]:
        """Do the same if only these refs can have moved since all was announced: the others are not read."""
        names = list(refs)
        now = (await self._refresher.refs(names)).as_dict()
        if now.keys() != set(names):
            return await self.announce_all(cause, delivery)  # one was deleted by hand, and perhaps more
        before = {ref: oid for ref in names if (oid := self.refs.get(ref)) is not None}
        changes = await changes_between(self._git, self._refresher.directory, before, now)
        await self.announce_moves(changes, cause, delivery)
        return changes

    async def announce_moves(self, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        """Announce changes, if no other ref was moved since all was announced, and none deleted."""
        if changes:
            self._announced = None  # until the journal has it
            self.refs = self.refs.moved(changes)
            await self._announce(changes, cause, delivery)
            self._announced = self.refs

    async def _announce(self, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        self._check_open()
        if self.managed.keep_forced:
            await self._refresher.keep(changes)
            self._check_open()
        try:
            await self._app.announce(self.managed.repo, changes, cause, delivery)
        except StackitError:
            self._check_open()  # what was refused is announced by whoever goes on with the mirror
            raise

    def _check_open(self) -> None:
        if self._closed is not None:
            raise self._closed()
