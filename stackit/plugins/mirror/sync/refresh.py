"""A mirror made equal to its remote: by a fast fetch, a fetch of the pushed refs, or a comparison of all refs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial

import msgspec

from stackit import App, ManagedRepo, Occurrence, RefChange
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.remote.client import Remote
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fsck import FsckSlots
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.sync.clone import Cloner, object_format
from stackit.plugins.mirror.sync.deletion_guard import objection
from stackit.plugins.mirror.sync.equality import Equality
from stackit.plugins.mirror.sync.fallback import Fallback
from stackit.plugins.mirror.sync.fast_fetch import FastFetch, Target
from stackit.plugins.mirror.sync.healing import Healer
from stackit.plugins.mirror.sync.housekeeping import Housekeeping
from stackit.plugins.mirror.sync.missing_refs import MissingRefs, find_missing_refs
from stackit.plugins.mirror.sync.peer_clone import PeerClone, Peers, no_peers
from stackit.plugins.mirror.sync.quick_check import QuickCheck
from stackit.plugins.mirror.sync.reconcile import reconcile
from stackit.plugins.mirror.sync.remote_identity import RemoteIdentity
from stackit.plugins.mirror.sync.settings import SyncSettings
from stackit.plugins.mirror.sync.slot_holder import SlotHolder
from stackit.plugins.mirror.sync.supervised_git import SupervisedGit
from stackit.plugins.mirror.sync.tamper_watch import TamperWatch
from stackit.plugins.mirror.sync.tunables import Tunables


class Outcome(msgspec.Struct, frozen=True):
    """The result of a refresh.

    ``held`` is the objection to deletions, ``missing`` are the refs of the remote that the mirror cannot hold; None if
    there are none. ``full``: all refs were compared. ``untouched``: the mirror was equal to its remote, and nothing
    was done.
    """

    held: str | None = None
    missing: MissingRefs | None = None
    full: bool = True
    untouched: bool = False


class Refresher:
    """Fetches into one mirror; ``slot`` is its fetch slot. Methods raise GitError, StackitError and OSError."""

    def __init__(
        self,
        app: App,
        git: Git,
        managed: ManagedRepo,
        settings: SyncSettings,
        *,
        slot: SlotHolder,
        fsck_slots: FsckSlots,
        disk: DiskReserve,
        tunables: Tunables,
        remote: Remote | None = None,
        peers: Peers = no_peers,
    ) -> None:
        """``peers`` are asked for a first clone before the remote."""
        self.directory = app.state_dir / "mirrors" / f"{managed.repo.path}.git"
        self.growth = Growth()
        self._app = app
        self._managed = managed
        self._settings = settings
        self._slot = slot
        self._tunables = tunables
        self._remote = remote
        self._repository = repository = Repository(git, self.directory)
        self._tampering = TamperWatch(self.directory)
        self._supervised_git = SupervisedGit(
            app, git, managed, settings.timeout, slot=slot, disk=disk, growth=self.growth, tunables=tunables
        )
        self._peer_clone = PeerClone(
            app, git, managed, peers, slot=slot, disk=disk, growth=self.growth, settings=settings, tunables=tunables
        )
        self._cloner = Cloner(app, git, managed, self._supervised_git, self.directory, tunables=tunables)
        self.housekeeping = Housekeeping(
            app,
            git,
            managed,
            repository,
            cloner=self._cloner,
            disk=disk,
            growth=self.growth,
            tampering=self._tampering,
        )
        self._healer = Healer(app, managed, repository, fsck_slots=fsck_slots, slot=slot, clone=self._clone)
        self._equality = Equality(app, managed, repository, self._tampering)
        self._identified = RemoteIdentity(app, repository)
        self._make_fast_fetch = partial(FastFetch, app.reactor, git, disk=disk, growth=self.growth)
        self._use_remote()

    def change(self, managed: ManagedRepo, remote: Remote | None) -> None:
        """Take other settings, and another client of the remote. No round may run."""
        self._managed = self._supervised_git.managed = self._cloner.managed = managed
        self._peer_clone.managed = managed
        self._remote = remote
        self._use_remote()

    def change_settings(self, settings: SyncSettings) -> None:
        """Take other settings of all mirrors, from the next fetch on."""
        self._settings = settings
        self._supervised_git.timeout = settings.timeout

    def _use_remote(self) -> None:
        remote = self._remote
        self._equality.quick_check = None if remote is None else QuickCheck(remote, self._managed)
        self._fast_fetch = None if remote is None else self._make_fast_fetch(remote, self.directory)

    @property
    def is_identified(self) -> bool:
        """True if the remote is known to be the mirror's repository, and no other one that has its name."""
        return self._identified.is_known(self._managed)

    async def refs(self, only: Sequence[str] = ()) -> Snapshot:
        """Read all refs, or ``only`` these."""
        return await self._repository.refs(only)

    async def delete(self, refs: Mapping[str, str]) -> None:
        """Delete refs that are at these object ids."""
        await self._repository.delete(refs)

    @property
    def head(self) -> str | None:
        """The ref that HEAD names; None without one."""
        return self._repository.head

    async def keep(self, changes: tuple[RefChange, ...]) -> None:
        """Keep the old tips of forced updates."""
        try:
            await self._repository.keep(changes)
        except GitError as problem:
            # They were lost with a mirror that was broken.
            self._notice(f"old tips could not be kept: {problem}")

    async def fetch_kept(self) -> None:
        """Fetch the old tips that other nodes of a fleet keep, where such tips are to be kept."""
        if self._managed.keep_forced and self.directory.exists():
            await self._peer_clone.fetch_kept(self.directory)

    # -- pushed refs --------------------------------------------------------------------

    async def fast_fetch(self, refs: Snapshot, targets: Mapping[str, Target]) -> tuple[RefChange, ...]:
        """Fetch the targets (by ref) without git's client; ``refs`` are all refs of the mirror.

        Returns the changes. Raises Fallback, with no ref moved.
        """
        fast_fetch = self._fast_fetch
        if fast_fetch is None:
            raise Fallback("not_http")
        self._begin()
        return await self._supervised_git.supervise(
            lambda _: fast_fetch.fetch(refs, targets),
            on_hang=fast_fetch.release_git,
            after=self._tunables.release_quick_after,
        )

    async def fetch_targets(self, refs: Snapshot, targets: Mapping[str, Target]) -> None:
        """Fetch the targets by git, and no other ref; ``refs`` as above. Raises Fallback if all refs are needed."""
        head = self._repository.head
        if head is None or refs.get(head) is None:
            raise Fallback("head", needs_all_refs=True)  # only the list of all refs has the new HEAD
        self._begin()
        only = tuple(f"+{target.source}:{target.ref}" for target in targets.values())
        tips = tuple(oid for ref in targets if (oid := refs.get(ref)) is not None)
        try:
            fetched = await self._supervised_git.fetch(self.directory, only=only, tips=tips)
        except GitError as problem:
            if problem.kind != "mirror" and "couldn't find remote ref" not in problem.stderr:
                raise
            raise Fallback("fetch", needs_all_refs=True) from problem
        if fetched.warnings:
            raise Fallback("left_out", needs_all_refs=True)  # only the list of all refs has what git left out

    def _begin(self) -> None:
        self.housekeeping.make_room()
        self._tampering.check()
        self._tampering.begin()

    # -- all refs -----------------------------------------------------------------------

    async def refresh(
        self, *, full: bool, accept: bool, quick: bool, timeouts: int, expected: Collection[str] = ()
    ) -> Outcome:
        """Ask the remote, and make the mirror equal to it.

        ``full``: compare all refs. Else only new objects are fetched, if that brings the ``expected`` refs.
        ``accept``: allow any number of deletions. ``quick``: one request is enough if nothing has changed.
        ``timeouts``: the rounds in a row before this one that timed out.
        """
        self._supervised_git.timeouts = timeouts
        if quick and await self._supervised_git.supervise(lambda _: self._equality.holds()):
            return Outcome(untouched=True)
        self.housekeeping.make_room()
        tampered = self._tampering.check() and full
        if tampered:
            self._healer.repair("", self._app.now())
        outcome = await self._fetch_and_heal(full=full, accept=accept, expected=expected)
        if tampered:
            # Damage that a fetch does not mend shows only when all objects are read.
            replaced = await self._healer.replace_if_broken()
            if replaced:
                outcome = await self._fetch_and_heal(full=full, accept=accept, expected=expected)
            self._tampering.touched = replaced is None
        return outcome

    async def is_unchanged(self) -> bool:
        """Ask the remote with one request; True if mirror and remote are unchanged since they were equal."""
        return await self._equality.is_unchanged()

    async def _fetch_and_heal(self, *, full: bool, accept: bool, expected: Collection[str]) -> Outcome:
        steps = ["repair", "replace"]
        while True:
            began = self._app.now()
            try:
                return await self._fetch(full=full, accept=accept, expected=expected)
            except (GitError, PermissionError) as problem:
                if isinstance(problem, GitError) and problem.kind != "mirror":
                    raise
                said = problem.stderr if isinstance(problem, GitError) else ""
                if not await self._healer.heal(steps, said, began):
                    raise

    async def _fetch(self, *, full: bool, accept: bool, expected: Collection[str]) -> Outcome:
        if not self.directory.exists() and not await self._clone_from_peer():
            return Outcome(missing=await self._clone())
        if not full and self.is_identified and await self._fetch_new(expected):
            return Outcome(full=False)
        listing = await self._listing()
        await self._identified.check(self._managed, listing)
        if object_format(listing) not in (None, self._repository.object_format):
            self._notice("the remote was made anew with another kind of object ids, and so is the mirror")
            return Outcome(missing=await self._clone())
        head = self._repository.head
        self._tampering.begin()
        outcome = await self._reconcile(listing, accept=accept)
        self._tampering.end()
        if self._repository.head != head:
            self._notice(f"HEAD names {self._repository.head} now, and named {head} before")
        return outcome

    async def _fetch_new(self, expected: Collection[str]) -> bool:
        """Fetch without a list of the remote's refs; False if that list is needed after all."""
        self._tampering.begin()
        try:
            fetched = await self._supervised_git.fetch(self.directory)
        except GitError as problem:
            # Perhaps a branch was replaced by a folder of branches (git words the lock of another git differently),
            # or the whole repository by one with other object ids.
            replaced = "lock ref" in problem.stderr and ".lock'" not in problem.stderr
            if replaced or "mismatched algorithms" in problem.stderr:
                return False
            raise
        refs, head = await self.refs(), self._repository.head
        self._tampering.end()
        if fetched.warnings or not fetched.certain or any(refs.get(ref) is None for ref in expected):
            return False
        return not refs or (head is not None and refs.get(head) is not None)

    async def _reconcile(self, listing: Listing, *, accept: bool) -> Outcome:
        done = await reconcile(
            self._repository,
            self._managed.refspecs,
            listing,
            fetch=lambda: self._supervised_git.fetch(self.directory),
            objection=lambda *refs: None if accept else objection(self._settings, *refs),
        )
        if done.fetched is None:
            return Outcome(held=done.held)
        missing = await find_missing_refs(
            self._repository,
            self._managed.refspecs,
            listing,
            done.refs,
            done.fetched,
            fetch=lambda: self._supervised_git.fetch(self.directory),
            ask=self._listing,
        )
        return Outcome(held=done.held, missing=missing)

    async def _listing(self) -> Listing:
        """List every ref of the remote, and note the protocol that it speaks."""
        listing = await self._supervised_git.listing()
        if self._remote is not None and listing.by_v2 is not None:
            self._remote.set_speaks_v2(speaks=listing.by_v2)
        return listing

    async def _clone(self) -> MissingRefs | None:
        await self._slot.enter("clone")
        listing = await self._listing()
        missing = await self._cloner.clone(listing)
        self._tampering.end()
        return missing

    async def _clone_from_peer(self) -> bool:
        """Clone the mirror of another node; False where none can be had."""
        if not self._peer_clone.is_possible:
            return False
        await self._slot.enter("clone")
        cloned = await self._peer_clone.clone(self.directory)
        self._tampering.end()
        return cloned

    def _notice(self, reason: str) -> None:
        self._app.observe(Occurrence(name="notice", repo=self._managed.repo, reason=reason))
