"""Makes one mirror equal to its remote, and finds the way out of what stands against it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import msgspec
from twisted.internet.defer import CancelledError

from stackit import App, ManagedRepo, Occurrence, RefChange, StackitError
from stackit.http.client import RemoteError
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import TOO_MANY_REFS, Git
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.remote.client import Remote
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fetch_cleanup import FetchCleanup
from stackit.plugins.mirror.repository.fsck import Fsck, FsckSlots
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.repository.leftovers import SAFE_AGE, is_in_use, remove_leftovers
from stackit.plugins.mirror.repository.repair import repair
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.repository.tamper import ObjectDigest
from stackit.plugins.mirror.settings import MirrorSettings
from stackit.plugins.mirror.sync.clone import Cloner, object_format
from stackit.plugins.mirror.sync.fast_fetch import Fallback, FastFetch, Target
from stackit.plugins.mirror.sync.guard import objection
from stackit.plugins.mirror.sync.missing_refs import MissingRefs, find_missing_refs
from stackit.plugins.mirror.sync.phase import phase
from stackit.plugins.mirror.sync.quick_check import QuickCheck
from stackit.plugins.mirror.sync.reconcile import reconcile
from stackit.plugins.mirror.sync.slot_holder import SlotHolder
from stackit.plugins.mirror.sync.supervised_git import QUICK_LEND_AFTER, SupervisedGit

THOROUGH_EVERY = 86400.0
"""Seconds between two looks of the backstop that git takes, even if the remote says that nothing has changed."""
REPLACE_EVERY = 3600.0
"""Seconds between two clones in the place of a mirror that does not get well by it."""


class Outcome(msgspec.Struct, frozen=True):
    """How a refresh ended.

    ``held`` is the objection to deletions, where there is one; ``missing`` is what the remote has and the mirror
    cannot hold. ``full``: all refs were compared. ``untouched``: the mirror was equal to its remote already,
    and nothing was done.
    """

    held: str | None = None
    missing: MissingRefs | None = None
    full: bool = True
    untouched: bool = False


class Refresher:
    """``slot`` is the slot of this repository. Methods raise GitError, StackitError and OSError."""

    def __init__(
        self,
        app: App,
        git: Git,
        managed: ManagedRepo,
        settings: MirrorSettings,
        *,
        slot: SlotHolder,
        checks: FsckSlots,
        disk: DiskReserve,
        remote: Remote | None = None,
    ) -> None:
        self.directory = app.state_dir / "mirrors" / f"{managed.repo.path}.git"
        self._app = app
        self._managed = managed
        self._settings = settings
        self._slot = slot
        self.growth = Growth()
        self._disk = disk
        self._supervised_git = SupervisedGit(
            app.reactor, app.now, git, managed, settings.timeout, slot=slot, disk=disk, growth=self.growth
        )
        self._cloner = Cloner(app, git, managed, self._supervised_git, self.directory)
        self._repository = Repository(git, self.directory)
        self._check = Fsck(checks, self._repository)
        self._object_digest = ObjectDigest(self.directory)
        self._git = git
        self._checked = False
        self._remote = remote
        self._quick_check = None if remote is None else QuickCheck(remote, managed)
        self._fast_fetch = None
        if remote is not None:
            self._fast_fetch = FastFetch(app.reactor, git, remote, self.directory, disk=disk, growth=self.growth)
        # The first thorough look is not at the start, where all mirrors are looked at at once.
        self._thorough_at = app.reactor.seconds() + THOROUGH_EVERY * phase(managed.repo.key)
        self._touched = False
        self._replaced_at: float | None = None

    async def refs(self, only: Sequence[str] = ()) -> Snapshot:
        """All refs, or ``only`` these."""
        return await self._repository.refs(only)

    async def keep(self, changes: tuple[RefChange, ...]) -> None:
        """Keep the old tips of forced updates."""
        try:
            await self._repository.keep(changes)
        except GitError as problem:
            # They went with a mirror that was broken, and nothing brings them back.
            self._notice(f"old tips could not be kept: {problem}")

    async def maintain(self) -> None:
        """git's own maintenance; what was left lying about is thrown away."""
        remove_leftovers(self.directory, before=self._app.now() - SAFE_AGE)
        self._cloner.discard()
        self._touched = self._touched or self._object_digest.is_touched()
        if self._touched:
            return  # the next look reads all objects first, so that nothing broken is packed
        self._object_digest.begin()
        await self._repository.pack_refs()
        cleanup = FetchCleanup(self._git, self.directory, self._app.reactor, self._app.now)
        try:
            await self._disk.supervise(self._maintained(), lambda: cleanup.size)
        except (GitError, CancelledError):
            cleanup.clear_files(locks=True)
            raise
        self._object_digest.end()

    async def _maintained(self) -> None:
        if self.growth.is_too_much:
            await self._repository.repack()
            self.growth.repacked()
        await self._repository.maintain()

    def tidy(self) -> None:
        """Make room: throw away what no git that was ended will come back for. No round may be at work."""
        before = self._app.now() - SAFE_AGE if is_in_use(self.directory) else math.inf
        removed = remove_leftovers(self.directory, before=before) + self._cloner.discard_all()
        if removed:
            self._healed(f"the disk is nearly full: {removed} leftovers were removed", removed)

    async def fast_fetch(self, refs: Snapshot, targets: Mapping[str, Target]) -> tuple[RefChange, ...]:
        """Fetch the targets without git's client; ``refs`` are all refs here. Raises Fallback, with no ref moved."""
        fast_fetch = self._fast_fetch
        if fast_fetch is None:
            raise Fallback("not_http")
        self._begin()
        return await self._supervised_git.watched(
            lambda _: fast_fetch.fetch(refs, targets), fast_fetch.rest, QUICK_LEND_AFTER
        )

    async def fetch_targets(self, refs: Snapshot, targets: Mapping[str, Target]) -> None:
        """Bring the targets by git, and nothing else; ``refs`` is as above. Raises Fallback where that does not do."""
        head = self._repository.head
        if head is None or refs.get(head) is None:
            raise Fallback("head", needs_all_refs=True)  # where it should be, only the list of all refs tells
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
            raise Fallback("left_out", needs_all_refs=True)  # what git left out, only the list of all refs tells

    def _begin(self) -> None:
        self._make_room()
        self._touched = self._touched or self._object_digest.is_touched()
        self._object_digest.begin()

    async def refresh(
        self, *, full: bool, accept: bool, quietly: bool, timeouts: int, expected: Collection[str] = ()
    ) -> Outcome:
        """Ask the remote, and make the mirror equal to it.

        ``full``: compare all refs; else only what is new is fetched, if that brings the ``expected`` refs.
        ``accept``: no objection to deletions.
        ``quietly``: one request is enough where it says that nothing has changed. ``timeouts``: how many
        rounds before this one ended in vain because their time was up.
        """
        self._supervised_git.timeouts = timeouts
        if quietly and await self._supervised_git.watched(lambda _: self._nothing_new()):
            return Outcome(untouched=True)
        self._make_room()
        self._touched = self._touched or self._object_digest.is_touched()
        if self._touched and full:
            self._mend("", self._app.now())
        outcome = await self._refreshed(full=full, accept=accept, expected=expected)
        if self._touched and full:
            # Somebody's hand was in the mirror. What it broke, and a fetch does not mend, shows only when it is read.
            replaced = await self._replace_if_broken()
            if replaced:
                outcome = await self._refreshed(full=full, accept=accept, expected=expected)
            self._touched = replaced is None
        return outcome

    async def is_unchanged(self) -> bool:
        """Whether one request told that mirror and remote are as they were when they were equal. False says nothing."""
        if self._quick_check is None or self._touched or self._app.reactor.seconds() >= self._thorough_at:
            return False
        try:
            return await self._quick_check.is_unchanged(self.directory)
        except (RemoteError, StackitError, OSError):
            return False  # a round asks again, and tells what it is

    async def _nothing_new(self) -> bool:
        """Whether one request told that mirror and remote are equal, and no thorough look is due."""
        now = self._app.reactor.seconds()
        if self._quick_check is None or not self.directory.exists():
            return False
        if not self._checked:  # what was done to the files while stackit did not run
            self._checked = True
            self._touched = self._touched or self._object_digest.is_touched()
        if self._touched:
            return False
        if now >= self._thorough_at:
            self._thorough_at = now + THOROUGH_EVERY
            return False
        try:
            seen = await self._quick_check.ask(self.directory, self._repository.object_format)
            if self._quick_check.is_as_before(seen):
                return True
            return self._quick_check.is_equal(seen, await self.refs(), self._repository.head, self._app.now())
        except RemoteError as problem:
            if problem.retry_after is not None:
                raise GitError(str(problem), kind="throttled", retry_after=problem.retry_after) from None
            if problem.reason == "too_large":  # and git, which takes whatever comes, is not to try
                raise GitError(TOO_MANY_REFS, kind="remote") from None
            return False  # git asks again, and finds out why
        except (GitError, OSError):
            return False  # as above

    async def _refreshed(self, *, full: bool, accept: bool, expected: Collection[str]) -> Outcome:
        steps = ["mend", "replace"]
        while True:
            began = self._app.now()
            try:
                return await self._attempt(full=full, accept=accept, expected=expected)
            except (GitError, PermissionError) as problem:
                if isinstance(problem, GitError) and problem.kind != "mirror":
                    raise
                said = problem.stderr if isinstance(problem, GitError) else ""
                if not await self._heal(steps, said, began):
                    raise

    async def _attempt(self, *, full: bool, accept: bool, expected: Collection[str]) -> Outcome:
        if not self.directory.exists():
            return Outcome(missing=await self._clone())
        if not full and await self._fetched_quickly(expected):
            return Outcome(full=False)
        listing = await self._listing()
        if object_format(listing) not in (None, self._repository.object_format):
            self._notice("the remote was made anew with another kind of object ids, and so is the mirror")
            return Outcome(missing=await self._clone())
        head = self._repository.head
        self._object_digest.begin()
        done = await reconcile(
            self._repository,
            self._managed.refspecs,
            listing,
            fetch=lambda: self._supervised_git.fetch(self.directory),
            objection=lambda *refs: None if accept else objection(self._settings, *refs),
        )
        missing = None
        if done.fetched is not None:
            missing = await find_missing_refs(
                self._repository,
                self._managed.refspecs,
                listing,
                done.refs,
                done.fetched,
                fetch=lambda: self._supervised_git.fetch(self.directory),
                ask=self._listing,
            )
        self._object_digest.end()
        if self._repository.head != head:
            self._notice(f"HEAD names {self._repository.head} now, and named {head} before")
        return Outcome(held=done.held, missing=missing)

    async def _listing(self) -> Listing:
        """Every ref of the remote, of which git also finds out what it speaks."""
        listing = await self._supervised_git.listing()
        if self._remote is not None and listing.by_v2 is not None:
            self._remote.set_speaks_v2(speaks=listing.by_v2)
        return listing

    async def _fetched_quickly(self, expected: Collection[str]) -> bool:
        """Whether what is new is here, with no need to look at all refs of the remote."""
        self._object_digest.begin()
        try:
            fetched = await self._supervised_git.fetch(self.directory)
        except GitError as problem:
            # Perhaps a branch was replaced by a folder of branches (a lock of another git says so differently),
            # or the whole repository by one with other object ids.
            replaced = "lock ref" in problem.stderr and ".lock'" not in problem.stderr
            if replaced or "mismatched algorithms" in problem.stderr:
                return False
            raise
        refs, head = await self.refs(), self._repository.head
        self._object_digest.end()
        if fetched.warnings or not fetched.certain or any(refs.get(ref) is None for ref in expected):
            return False
        return not refs or (head is not None and refs.get(head) is not None)

    async def _clone(self) -> MissingRefs | None:
        await self._slot.enter("clone")
        listing = await self._listing()
        missing = await self._cloner.clone(listing)
        self._object_digest.end()
        return missing

    def _make_room(self) -> None:
        if self._disk.is_short:
            self.tidy()
            self._disk.check()

    # -- healing --------------------------------------------------------------------------

    async def _heal(self, steps: list[str], said: str, began: float) -> bool:
        """Take the smallest of the steps left that changes something; False where none does."""
        while steps and self.directory.exists():
            if steps.pop(0) == "mend":
                if self._mend(said, began):
                    return True
            elif await self._replace_if_broken():
                return True
        return False

    def _mend(self, said: str, began: float) -> bool:
        done = repair(self.directory, said, began)
        for reason, count in done:
            self._healed(f"{reason}: {count}", count)
        return bool(done)

    async def _replace_if_broken(self) -> bool | None:
        """Whether it was broken, and is no more; None where it is not its turn to be looked at."""
        now = self._app.reactor.seconds()
        if self._replaced_at is not None and now - self._replaced_at < REPLACE_EVERY:
            return None
        self._slot.leave()  # reading all objects takes long, and asks nothing of the remote
        sound = await self._check.is_sound()
        if sound is not False:
            return None if sound is None else False
        await self._clone()
        self._check.replaced()
        self._replaced_at = now
        self._healed("the mirror was broken: a fresh clone took its place", 1)
        return True

    def _healed(self, reason: str, count: int) -> None:
        self._app.observe(Occurrence(name="healed", repo=self._managed.repo, reason=reason, count=count))

    def _notice(self, reason: str) -> None:
        self._app.observe(Occurrence(name="notice", repo=self._managed.repo, reason=reason))
