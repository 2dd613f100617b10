"""The faults of a soak, injected one at a time: each is over, and mended, before the next begins."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any, get_args

from outside import Held, alive, descendants, process_file
from twisted.internet.task import deferLater
from vitals import descriptors

from stackit.testing import PretendGitHub, RunningStackit
from stackit.testing.faults import FaultKind


class Injections:
    """What goes wrong with the machine, the remotes and the process. ``count`` is how many there were."""

    def __init__(
        self,
        reactor: Any,
        server: RunningStackit,
        github: PretendGitHub,
        repos: Iterable[str],
        random: Random,
        secret: Path,
    ) -> None:
        self.count = 0
        self._reactor = reactor
        self._server = server
        self._github = github
        self._repos = tuple(repos)
        self._random = random
        self._secret = secret
        self._lasting: tuple[Callable[[], Awaitable[None]], ...] = (
            self._bad_remote,
            self._deaf_remotes,
            self._killed_git,
            self._frozen,
            self._full_disk,
            self._no_descriptors,
            self._no_threads,
            self._replaced_secret,
        )
        self._ending: tuple[Callable[[], Awaitable[None]], ...] = (self._killed, self._restarted)

    async def run(self, seconds: float, *, restarts: bool) -> None:
        """Inject for so long; ``restarts`` end the process, too."""
        until = self._reactor.seconds() + seconds
        kinds = self._lasting + self._ending if restarts else self._lasting
        while self._reactor.seconds() < until:
            await self._random.choice(kinds)()
            self.count += 1
            await self._wait(0, 2)

    async def _wait(self, least: float, most: float) -> None:
        await deferLater(self._reactor, self._random.uniform(least, most))

    async def _bad_remote(self) -> None:
        repo, kind = self._random.choice(self._repos), self._random.choice(get_args(FaultKind))
        self._github.fault(repo, kind)
        await self._wait(1, 4)
        self._github.heal(repo)

    async def _deaf_remotes(self) -> None:
        with Held(self._github):
            await self._wait(0.5, 3)

    @property
    def _pid(self) -> int:
        """The process, which must be there: 0 would be this one, and all of its group."""
        assert self._server.pid is not None, f"stackit has ended:\n{self._server.log[-4000:]}"
        return self._server.pid

    async def _killed_git(self) -> None:
        for pid in alive(descendants(self._pid)):
            if process_file(pid, "comm").startswith(b"git"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def _frozen(self) -> None:
        pid = self._pid
        os.kill(pid, signal.SIGSTOP)
        await self._wait(0.2, 2)
        os.kill(pid, signal.SIGCONT)

    async def _full_disk(self) -> None:
        """No file grows beyond what most have: a write fails as it does on a disk that is full."""
        with self._limit(resource.RLIMIT_FSIZE, 2**12):
            await self._wait(0.5, 2)

    async def _no_descriptors(self) -> None:
        with self._limit(resource.RLIMIT_NOFILE, descriptors(self._pid) + 1):
            await self._wait(0.5, 2)

    async def _no_threads(self) -> None:
        """A new thread's stack is 8 MiB, which it does not get."""
        pages = int(process_file(self._pid, "statm").split()[0])
        with self._limit(resource.RLIMIT_AS, pages * resource.getpagesize() + 6 * 2**20):
            await self._wait(0.2, 1)

    async def _replaced_secret(self) -> None:
        new = self._secret.with_suffix(".new")
        new.write_text(f"secret {self._random.getrandbits(64)}\n")
        new.replace(self._secret)

    async def _killed(self) -> None:
        await self._server.kill()
        await self._wait(0, 0.3)
        await self._server.start()

    async def _restarted(self) -> None:
        await self._server.stop()
        await self._server.start()

    @contextlib.contextmanager
    def _limit(self, kind: int, limit: int) -> Iterator[None]:
        pid = self._pid
        soft, hard = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (limit, hard))
        try:
            yield
        finally:
            resource.prlimit(pid, kind, (soft, hard))
