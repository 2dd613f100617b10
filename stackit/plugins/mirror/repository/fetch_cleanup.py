"""What a fetch that fails leaves in a mirror: unfinished files, and whole objects that no ref will ever need."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from stackit import Reactor
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.repository.growth import TOO_MUCH, bytes_written
from stackit.plugins.mirror.repository.leftovers import remove_leftovers, remove_unfinished_objects
from stackit.plugins.mirror.repository.tamper import RefStamps, ref_stamps


class FetchCleanup:
    """Made before a fetch into the mirror at ``directory``, and asked to clear it away where that fails.

    No other git may write in this mirror meanwhile.
    """

    def __init__(self, git: Git, directory: Path, reactor: Reactor, now: Callable[[], float]) -> None:
        """``now`` is the wall clock, by which files are dated."""
        self._git = git
        self._directory = directory
        self._reactor = reactor
        self._now = now
        self._began, self._began_at = reactor.seconds(), now()
        self._packs = self._packs_now()
        self._refs: RefStamps | None
        try:
            self._refs = ref_stamps(directory)
        except OSError:
            self._refs = None

    @property
    def _since(self) -> float:
        # Where somebody set the clock back meanwhile, the files of this are younger than its beginning; and clocks of
        # file systems tick slowly.
        took: float = self._reactor.seconds() - self._began
        return min(self._began_at, self._now() - took) - 1

    @property
    def size(self) -> int:
        """The bytes that were written since the beginning."""
        return bytes_written(self._directory / "objects", self._since)

    def clear_files(self, *, locks: bool) -> None:
        """Remove what is unfinished; ``locks`` too where git could not tidy up, else they are somebody else's."""
        (remove_leftovers if locks else remove_unfinished_objects)(self._directory, since=self._since)
        if self._refs is not None and self._refs.is_current(self._directory):
            # No ref has moved, so what each of them needs was here before.
            for pack in self._packs_now() - self._packs:
                for file in (self._directory / "objects" / "pack").glob(f"{pack}.*"):
                    file.unlink(missing_ok=True)

    async def clear_objects(self, problem: GitError) -> None:
        """Have git remove the loose objects that no ref needs, where there are many, or the disk is full."""
        if problem.kind == "disk" or self.size >= TOO_MUCH:
            with contextlib.suppress(GitError):
                await self._git.local(self._directory, "prune", "--expire=now")

    def _packs_now(self) -> set[str]:
        return {pack.stem for pack in (self._directory / "objects" / "pack").glob("pack-*.pack")}
