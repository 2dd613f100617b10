"""git against a remote that may hang: it frees its slot, ends in time, and leaves nothing behind."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import CancelledError

from stackit import App, ManagedRepo
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Fetched, Git
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fetch_cleanup import FetchCleanup
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.sync.slot_holder import SlotHolder
from stackit.plugins.mirror.sync.tunables import Tunables

_SENT = re.compile(rb"(?:Receiving|Unpacking) objects: 100% \(\d+/\d+\), ([\d.]+) (bytes|KiB|MiB|GiB)")
_LINE = 200
_UNITS = {b"bytes": 1, b"KiB": 2**10, b"MiB": 2**20, b"GiB": 2**30}

Answer = TypeVar("Answer")
Progress = Callable[[bytes], None]


class SupervisedGit:
    """Asks the remote of one repository by git; ``slot`` is its fetch slot, which is freed while git hangs.

    ``timeout`` is in seconds, and doubles with each of ``timeouts`` in a row.
    """

    def __init__(
        self,
        app: App,
        git: Git,
        managed: ManagedRepo,
        timeout: float,
        *,
        slot: SlotHolder,
        disk: DiskReserve,
        growth: Growth,
        tunables: Tunables,
    ) -> None:
        self.timeouts = 0
        self._app = app
        self._git = git
        self.managed = managed
        self.timeout = timeout
        self._slot = slot
        self._disk = disk
        self._growth = growth
        self._tunables = tunables

    async def listing(self) -> Listing:
        """List every ref of the remote. Raises GitError."""
        # It shows no progress before its end, so its timeout is that of a stall.
        timeout = self._grown(min(self._tunables.stall, self.timeout))
        return await self.supervise(lambda _: self._git.listing(self.managed, timeout=timeout))

    async def fetch(
        self,
        directory: Path,
        *,
        first: bool = False,
        progress: Progress | None = None,
        only: tuple[str, ...] = (),
        tips: tuple[str, ...] = (),
    ) -> Fetched:
        """Fetch into a repository. Raises GitError.

        A ``first`` fetch may take an hour while it makes progress. ``progress`` is called with each piece of git's
        stderr. ``only``: these refspecs instead of the configured ones. ``tips``: commits here that the remote most
        likely has.
        """
        timeout = self._tunables.longest if first else self._grown(self.timeout)

        def fetch(heard: Progress) -> Awaitable[Fetched]:
            return self._git.fetch(
                directory,
                self.managed,
                timeout=timeout,
                stall=min(self._tunables.stall, timeout),
                on_progress=heard,
                only=only,
                tips=tips,
            )

        if first:
            return await self._run_long(self._run_clean(directory, fetch, progress))
        return await self._run_clean(directory, fetch, progress)

    async def clone(self, directory: Path, progress: Progress) -> None:
        """Clone into an empty place, see ``Git.clone``; with the times of a first fetch. Raises GitError."""

        def clone(heard: Progress) -> Awaitable[None]:
            return self._git.clone(
                directory, self.managed, timeout=self._tunables.longest, stall=self._tunables.stall, on_progress=heard
            )

        await self._run_long(self._run_clean(directory, clone, progress))

    async def _run_long(self, work: Awaitable[Answer]) -> Answer:
        """Await work that may take very long, and free its slot after a while."""
        long = self._app.reactor.callLater(self._tunables.release_long_after, self._slot.release_long_running)
        try:
            return await work
        finally:
            if long.active():
                long.cancel()

    async def _run_clean(
        self, directory: Path, bring: Callable[[Progress], Awaitable[Answer]], progress: Progress | None
    ) -> Answer:
        """Run a git that writes into ``directory``, and remove its leftovers if it fails."""
        cleanup = FetchCleanup(self._git, directory, self._app.reactor, self._app.now)
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
            answer = await self._disk.supervise(self.supervise(watched), lambda: cleanup.size)
        except (GitError, CancelledError) as problem:
            # git has ended. A git that was killed could not remove its locks; any other lock belongs to another
            # process, and is the reason of the failure.
            cleanup.clear_files(locks=isinstance(problem, CancelledError) or problem.killed)
            if isinstance(problem, GitError):
                await cleanup.clear_objects(problem)
            raise
        sent = _SENT.findall(said)
        self._growth.add(cleanup.size, int(float(sent[-1][0]) * _UNITS[sent[-1][1]]) if sent else 0)
        return answer

    def _grown(self, timeout: float) -> float:
        return min(timeout * 2.0**self.timeouts, self._tunables.longest)

    async def supervise(
        self,
        ask: Callable[[Progress], Awaitable[Answer]],
        *,
        on_hang: Callable[[], None] = lambda: None,
        after: float | None = None,
    ) -> Answer:
        """Await the answer of ``ask``, which calls its argument for each sign of progress.

        After ``after`` seconds without progress (``release_after`` if None), the slot is freed and ``on_hang`` called.
        """
        after = self._tunables.release_after if after is None else after

        def hang() -> None:
            self._slot.release_early()
            on_hang()

        timer = self._app.reactor.callLater(after, hang)

        def progressed(_: bytes) -> None:
            self._slot.resume()
            if timer.active():
                timer.reset(after)

        try:
            return await ask(progressed)
        finally:
            if timer.active():
                timer.cancel()
