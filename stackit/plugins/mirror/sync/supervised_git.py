"""Asking the remote by git, so that one which hangs neither stands in the way of others nor leaves anything behind."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import CancelledError

from stackit import ManagedRepo, Reactor
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Fetched, Git
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fetch_cleanup import FetchCleanup
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.sync.slot_holder import SlotHolder

LEND_AFTER = 5.0
"""Seconds without progress after which a fetch no longer counts against the concurrency."""
LONG = 60.0
"""Seconds after which a first fetch or a clone lends its slot, whatever its progress: small ones need not wait."""
QUICK_LEND_AFTER = 0.5
"""The same for what takes milliseconds."""
STALL = 60.0
"""Seconds without progress after which a fetch ends, whatever its timeout."""
LONGEST = 3600.0
"""Seconds after which a first fetch ends, and the most that a timeout grows to."""

_SENT = re.compile(rb"(?:Receiving|Unpacking) objects: 100% \(\d+/\d+\), ([\d.]+) (bytes|KiB|MiB|GiB)")
_LINE = 200
_UNITS = {b"bytes": 1, b"KiB": 2**10, b"MiB": 2**20, b"GiB": 2**30}

Answer = TypeVar("Answer")
Progress = Callable[[bytes], None]


class SupervisedGit:
    """Asks the remote of one repository. ``slot`` is its slot, which what hangs lends.

    ``now`` is the wall clock, which files' times are of. ``timeout`` is in seconds, and doubles with each of
    ``timeouts`` in a row.
    """

    def __init__(
        self,
        reactor: Reactor,
        now: Callable[[], float],
        git: Git,
        managed: ManagedRepo,
        timeout: float,
        *,
        slot: SlotHolder,
        disk: DiskReserve,
        growth: Growth,
    ) -> None:
        self.timeouts = 0
        self._timeout = timeout
        self._reactor = reactor
        self._now = now
        self._git = git
        self._managed = managed
        self._slot = slot
        self._disk = disk
        self._growth = growth

    async def listing(self) -> Listing:
        """Every ref of the remote. Raises GitError."""
        # It shows no progress before its end, so silence is all there is to go by.
        timeout = self._grown(min(STALL, self._timeout))
        return await self.watched(lambda _: self._git.listing(self._managed, timeout=timeout))

    async def fetch(
        self,
        directory: Path,
        *,
        first: bool = False,
        progress: Progress | None = None,
        only: tuple[str, ...] = (),
        tips: tuple[str, ...] = (),
    ) -> Fetched:
        """Bring new refs, and those that moved, into a repository. Raises GitError.

        The ``first`` fetch may take as long as it likes while it makes progress. ``progress`` sees what git says.
        ``only`` these refspecs, if any, and not all; ``tips`` is what the remote most likely has of what is here.
        """
        timeout = LONGEST if first else self._grown(self._timeout)

        def fetch(heard: Progress) -> Awaitable[Fetched]:
            return self._git.fetch(
                directory,
                self._managed,
                timeout=timeout,
                stall=min(STALL, timeout),
                on_progress=heard,
                only=only,
                tips=tips,
            )

        if first:
            return await self._at_length(self._tidily(directory, fetch, progress))
        return await self._tidily(directory, fetch, progress)

    async def clone(self, directory: Path, progress: Progress) -> None:
        """Make a repository where nothing is, see ``Git.clone``; for the rest like a first fetch. Raises GitError."""

        def clone(heard: Progress) -> Awaitable[None]:
            return self._git.clone(directory, self._managed, timeout=LONGEST, stall=STALL, on_progress=heard)

        await self._at_length(self._tidily(directory, clone, progress))

    async def _at_length(self, work: Awaitable[Answer]) -> Answer:
        """The answer of what may take very long."""
        long = self._reactor.callLater(LONG, self._slot.release_long_running)
        try:
            return await work
        finally:
            if long.active():
                long.cancel()

    async def _tidily(
        self, directory: Path, bring: Callable[[Progress], Awaitable[Answer]], progress: Progress | None
    ) -> Answer:
        """Run what brings objects into ``directory``, and clear away what it leaves where it fails."""
        cleanup = FetchCleanup(self._git, directory, self._reactor, self._now)
        said = b""

        def watched(alive: Progress) -> Awaitable[Answer]:
            def heard(piece: bytes) -> None:
                nonlocal said
                alive(piece)
                said = said[-_LINE:] + piece
                if progress is not None:
                    progress(piece)

            return bring(heard)

        try:
            answer = await self._disk.supervise(self.watched(watched), lambda: cleanup.size)
        except (GitError, CancelledError) as problem:
            # Nothing of it runs any more: what it was unpacking is nobody's, nor is what it had locked
            # where it could not tidy up. (Otherwise the lock is somebody else's, and the reason of the failure.)
            cleanup.clear_files(locks=isinstance(problem, CancelledError) or problem.killed)
            if isinstance(problem, GitError):
                await cleanup.clear_objects(problem)
            raise
        sent = _SENT.findall(said)
        self._growth.add(cleanup.size, int(float(sent[-1][0]) * _UNITS[sent[-1][1]]) if sent else 0)
        return answer

    def _grown(self, timeout: float) -> float:
        return min(timeout * 2.0**self.timeouts, LONGEST)

    async def watched(
        self,
        ask: Callable[[Progress], Awaitable[Answer]],
        rest: Callable[[], None] = lambda: None,
        after: float | None = None,
    ) -> Answer:
        """The answer; while there is no sign of life (for ``after`` seconds), the slot is another's.

        ``rest`` is called at the first such moment.
        """
        after = LEND_AFTER if after is None else after

        def hang() -> None:
            self._slot.release_early()
            rest()

        hung = self._reactor.callLater(after, hang)

        def alive(_: bytes) -> None:
            self._slot.resume()
            if hung.active():
                hung.reset(after)

        try:
            return await ask(alive)
        finally:
            if hung.active():
                hung.cancel()
