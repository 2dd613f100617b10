"""grokmirror beside stackit: it compares one manifest, which a grokmirror at the server's end has to write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import harness
from mirror_setup import ENVIRONMENT, reactor
from twisted.internet.threads import deferToThread
from twisted.web.server import Site
from twisted.web.static import File

LONGEST = 120
"""Seconds for one run: with 100 repositories one was seen that did not come to its end in five minutes."""
_PROGRAMS = Path(sys.executable).parent


def missing() -> str | None:
    """Why it cannot run; None where it can."""
    return None if (_PROGRAMS / "grok-pull").exists() else "not installed: pip install grokmirror"


class _AsTheyAre(File):
    """Files whose name says that they are compressed are sent as files, and not as a compressed answer."""

    contentEncodings: dict[str, str] = {}  # noqa: RUF012 - as in Twisted, where it is an attribute of each


class Grok:
    """A collection of mirrors that grokmirror keeps. ``write`` has to be called after a change at the remote."""

    def __init__(self, directory: Path, remote: Path, site: str) -> None:
        """``remote`` is the directory that ``site`` serves the repositories of."""
        self._remote = remote
        self._served = directory / "manifest"
        self._served.mkdir(parents=True)
        (directory / "mirrors").mkdir()
        self.listening = reactor.listenTCP(0, Site(_AsTheyAre(str(self._served))), interface="127.0.0.1")
        self._config = directory / "grokmirror.conf"
        self._config.write_text(
            f"[core]\ntoplevel = {directory}/mirrors\nmanifest = {directory}/mirrors/manifest.js.gz\n"
            f"log = {directory}/log\n[remote]\nsite = {site}\n"
            f"manifest = http://127.0.0.1:{self.listening.getHost().port}/manifest.js.gz\n"
            "[pull]\npull_threads = 4\nrefresh = 0\n"
        )
        self._written = 0

    async def write(self) -> None:
        """The server's part: list the repositories. A second's difference is what HTTP can tell."""
        manifest = self._served / "manifest.js.gz"
        await _run("grok-manifest", "-n", "-m", str(manifest), "-t", str(self._remote))
        self._written += 2
        moment = 1_700_000_000 + self._written
        os.utime(manifest, (moment, moment))

    async def pull(self) -> tuple[float, float]:
        """The client's part: CPU and wall seconds of one ``grok-pull``."""
        began = reactor.seconds()
        used = await _run("grok-pull", "-c", str(self._config))
        return used, reactor.seconds() - began


@asynccontextmanager
async def grokmirror(directory: Path, remote: Path, site: str) -> AsyncIterator[Grok]:
    found = Grok(directory, remote, site)
    try:
        yield found
    finally:
        await found.listening.stopListening()


async def _run(program: str, *arguments: str) -> float:
    """The CPU seconds of a program and its children, on the server's core."""

    def work() -> float:
        os.sched_setaffinity(0, {harness.SERVER_CORE})  # of this thread
        child = subprocess.Popen(
            ["timeout", "--kill-after=5", str(LONGEST), str(_PROGRAMS / program), *arguments],
            env={**ENVIRONMENT, "HOME": "/tmp"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, child.returncode, used = os.wait4(child.pid, 0)
        if child.returncode:
            raise RuntimeError(f"{program} failed, or did not end within {LONGEST} s (wait status {child.returncode})")
        return used.ru_utime + used.ru_stime

    return await deferToThread(work)
