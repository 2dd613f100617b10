"""The first clone, or a fresh one: made beside the mirror's place, so that no reader sees half a repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from stackit import App, ManagedRepo
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import BRANCHES, Fetched, Git
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.refspecs import KEPT, for_git
from stackit.plugins.mirror.repository.identity import write_identity
from stackit.plugins.mirror.repository.leftovers import REPLACED
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.repository.swap import exchange
from stackit.plugins.mirror.sync.missing_refs import MissingRefs, find_missing_refs
from stackit.plugins.mirror.sync.progress import Progress
from stackit.plugins.mirror.sync.reconcile import follow_head
from stackit.plugins.mirror.sync.ref_plan import fit_as_files
from stackit.plugins.mirror.sync.supervised_git import SupervisedGit
from stackit.plugins.mirror.sync.tunables import Tunables


def object_format(listing: Listing) -> str | None:
    """Return ``sha1`` or ``sha256``; None if the remote has no ref."""
    for oid in listing.refs.values():
        return "sha256" if len(oid) == 64 else "sha1"
    return None


class Cloner:
    """Clones the mirror at ``place``, also in the place of a broken one."""

    def __init__(
        self,
        app: App,
        git: Git,
        managed: ManagedRepo,
        supervised_git: SupervisedGit,
        place: Path,
        *,
        tunables: Tunables,
    ) -> None:
        self._app = app
        self._git = git
        self.managed = managed
        self._supervised_git = supervised_git
        self._place = place
        self._tunables = tunables

    # No owner's name begins with a dot, so no mirror can be in these folders.

    @property
    def _beside(self) -> Path:
        return self._apart(".cloning")

    @property
    def _replaced(self) -> Path:
        return self._apart(REPLACED)

    def _apart(self, folder: str) -> Path:
        mirrors = self._app.state_dir / "mirrors"
        return mirrors / folder / self._place.relative_to(mirrors)

    async def clone(self, listing: Listing) -> MissingRefs | None:
        """Clone, and return the refs of ``listing`` that the mirror cannot hold. Raises GitError and OSError.

        Where that is everything, there is no mirror, and the old one stays.
        """
        try:
            return await self._clone(listing)
        finally:
            # A clone that failed takes room, and cannot be continued.
            shutil.rmtree(self._beside, ignore_errors=True)

    async def _clone(self, listing: Listing) -> MissingRefs | None:
        made = Repository(self._git, self._beside)
        progress = Progress(self._app, self.managed.repo)
        fetched = Fetched("", certain=True)
        if not (self._can_clone(listing) and await self._cloned(made, progress)):
            self._clear()
            await made.make(object_format(listing) or "sha1")
            fetched = await self._supervised_git.fetch(self._beside, first=True, progress=progress)
        missing = await find_missing_refs(
            made,
            self.managed.refspecs,
            listing,
            await made.refs(),
            fetched,
            fetch=lambda: self._supervised_git.fetch(self._beside, first=True, progress=progress),
            ask=self._supervised_git.listing,
        )
        if missing is not None and not await made.refs():
            raise GitError(str(missing), kind="remote")
        await self._carry_kept()
        await made.pack_refs()
        await follow_head(made, self.managed.refspecs, listing, await made.refs())
        if self.managed.identity is not None:
            write_identity(self._beside, self.managed.identity)
        self._take_place()
        return missing

    def discard(self) -> None:
        """Delete the mirror that was replaced: its readers have finished by now."""
        if self._replaced.is_dir():
            shutil.rmtree(self._replaced, ignore_errors=True)
        else:
            self._replaced.unlink(missing_ok=True)

    def discard_all(self) -> int:
        """Delete it, and a clone that was not finished; returns the number of both."""
        there = [each for each in (self._beside, self._replaced) if each.exists()]
        for each in there:
            shutil.rmtree(each, ignore_errors=True)
        return len(there)

    def _can_clone(self, listing: Listing) -> bool:
        """Return True if ``git clone`` is faster than a fetch, and brings the same.

        It does not know excluded refspecs nor the mirror's own refs. It always brings all branches, and the ref that
        HEAD names.
        """
        refspecs = self.managed.refspecs
        return (
            len(listing.refs) >= self._tunables.clone_from
            and BRANCHES in refspecs
            and not any(refspec.startswith("^") for refspec in for_git(refspecs))
            and listing.head in listing.refs
            and listing.head.startswith(b"refs/heads/")
        )

    async def _cloned(self, made: Repository, progress: Progress) -> bool:
        """Run ``git clone``; False if its result is not that of a fetch."""
        self._clear()
        try:
            await self._supervised_git.clone(self._beside, progress)
        except GitError as problem:
            if problem.kind != "mirror":
                raise
            return False  # a fetch can do it, or says what is wrong in its own words
        # Unlike a fetch, a clone accepts a shallow remote, and refs that cannot be files: together (from git 2.48 on),
        # or at all.
        return not (self._beside / "shallow").exists() and fit_as_files((await made.refs()).as_dict())

    def _clear(self) -> None:
        if self._beside.exists():
            shutil.rmtree(self._beside)
        self._beside.parent.mkdir(parents=True, exist_ok=True)

    def _take_place(self) -> None:
        if not self._place.exists():
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._beside.rename(self._place)
            return
        exchange(self._beside, self._place)
        # A reader may still use the old one.
        self.discard()
        self._replaced.parent.mkdir(parents=True, exist_ok=True)
        self._beside.rename(self._replaced)

    async def _carry_kept(self) -> None:
        """Copy the old tips that were kept, which are nowhere else. Those that are broken are lost."""
        if not self._place.is_dir():
            return
        old = msgspec.structs.replace(self.managed, url=str(self._place), token_file=None, token_source=None)
        longest = self._tunables.longest
        kept = (f"+{KEPT.decode()}*:{KEPT.decode()}*",)
        try:
            await self._git.fetch(
                self._beside, old, timeout=longest, stall=longest, on_progress=lambda _: None, only=kept
            )
        except GitError:
            return
