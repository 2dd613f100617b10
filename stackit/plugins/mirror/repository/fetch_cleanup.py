"""Remove the files that one failed fetch wrote: temporary files, and objects that no ref needs.

``leftovers`` removes temporary files of any git, by their age; here the fetch is known, and so are its packs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from stackit import Timers
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.repository.growth import TOO_MUCH, bytes_written
from stackit.plugins.mirror.repository.leftovers import remove_leftovers, remove_unfinished_objects
from stackit.plugins.mirror.repository.tamper import RefStamps, ref_stamps


class FetchCleanup:
    """The state of the mirror at ``directory`` before a fetch, by which its files are told from others.

    Make it before the fetch. No other git may write in this mirror until the end.
    """

    def __init__(self, git: Git, directory: Path, reactor: Timers, now: Callable[[], float]) -> None:
        """``now`` is the wall clock, the clock of files' modification times."""
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
        # If the wall clock was set back meanwhile, the fetch wrote files that are older than its beginning. One second
        # is for the coarse clocks of file systems.
        took: float = self._reactor.seconds() - self._began
        return min(self._began_at, self._now() - took) - 1

    @property
    def size(self) -> int:
        """The bytes that the fetch has written so far."""
        return bytes_written(self._directory / "objects", self._since)

    def clear_files(self, *, locks: bool) -> None:
        """Remove temporary files, and new packs if no ref has moved; ``locks`` as well if git was killed."""
        (remove_leftovers if locks else remove_unfinished_objects)(self._directory, since=self._since)
        if self._refs is not None and self._refs.is_current(self._directory):
            # No ref has moved, so no ref needs a new pack.
            for pack in self._packs_now() - self._packs:
                for file in (self._directory / "objects" / "pack").glob(f"{pack}.*"):
                    file.unlink(missing_ok=True)

    async def clear_objects(self, problem: GitError) -> None:
        """Let git prune loose objects that no ref needs, if they are many or the disk is full."""
        if problem.kind == "disk" or self.size >= TOO_MUCH:
            with contextlib.suppress(GitError):
                await self._git.local(self._directory, "prune", "--expire=now")

    def _packs_now(self) -> set[str]:
        return {pack.stem for pack in (self._directory / "objects" / "pack").glob("pack-*.pack")}
