"""Setup of the benchmarks of mirrors: a pretend GitHub on one core, stackit and plain git on the other."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import harness
from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from stackit.subprocesses import Finished, ProcessLimits, run
from stackit.testing import PretendGitHub, RunningStackit

reactor: Any = the_reactor
CORES = os.sched_getaffinity(0)
LEAN = ("--no-auto-maintenance", "--no-write-fetch-head", "--no-tags", "--quiet")
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Keep the processes that are started meanwhile on this core."""
    before = os.sched_getaffinity(0)
    # Not among those of this process: it keeps to one, once it runs.
    os.sched_setaffinity(0, {core} & CORES or CORES)
    yield
    os.sched_setaffinity(0, before)


async def git(*arguments: str | Path) -> Finished:
    """Run git on the server's core. Raises RuntimeError."""
    with on_core(harness.SERVER_CORE):
        # Started, and not only made, while this process is there.
        running = Deferred.fromCoroutine(
            run(reactor, ["git", *map(str, arguments)], env=ENVIRONMENT, limits=ProcessLimits(timeout=600))
        )
    done = await running
    if done.status:
        raise RuntimeError(f"git {arguments[0]}: {done.stderr.decode(errors='replace')[-300:]}")
    return done


async def git_cpu(*arguments: str | Path) -> float:
    """Run git on the server's core: the CPU seconds that it and its children used."""

    def work() -> float:
        os.sched_setaffinity(0, {harness.SERVER_CORE})  # of this thread
        child = subprocess.Popen(["git", *map(str, arguments)], env=ENVIRONMENT, stdout=subprocess.DEVNULL)
        _, child.returncode, used = os.wait4(child.pid, 0)
        if child.returncode:
            raise RuntimeError(f"git {arguments[0]} failed")
        return used.ru_utime + used.ru_stime

    return await deferToThread(work)


@asynccontextmanager
async def github(directory: Path) -> AsyncIterator[PretendGitHub]:
    """It shares this process and its core with the benchmark."""
    found = PretendGitHub()
    await found.start(reactor, directory / "github")
    try:
        yield found
    finally:
        await found.stop()


@asynccontextmanager
async def stackit(
    directory: Path, repos: Mapping[str, str], modules: Path | None = None, **config: Any
) -> AsyncIterator[RunningStackit]:
    """stackit with mirrors of these repositories (URL by name), on the server's core.

    ``modules`` is a folder of plugin modules that the configuration may name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tables = {"repos": [{"name": name, "url": url} for name, url in repos.items()], **config}
    server = RunningStackit(reactor, directory, config=tables, plugins=modules)
    with on_core(harness.SERVER_CORE):
        await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def in_step(server: RunningStackit, within: float = 600) -> None:
    """Wait until every mirror equals its remote."""

    async def ready() -> bool:
        listed = (await server.admin("GET", "{prefix}/repos")).json()["repos"]
        return all(each["state"] == "in_step" for each in listed)

    await server.until(ready, "every mirror to be in step", within)


async def cloned(server: RunningStackit, name: str) -> None:
    """Wait for the first clone, which the start begins; with 100,000 refs it takes a while."""

    async def in_step() -> bool:
        answer = await server.admin("GET", f"{{prefix}}/repos/{name}")
        return bool(answer.json()["state"] == "in_step")

    await server.until(in_step, f"a mirror of {name}", within=300)


def mirror(server: RunningStackit, name: str) -> Path:
    """Return the directory of a mirror."""
    return Path(server.state_dir, "mirrors", f"{name}.git")


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process, and of those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> float:
    """Memory of a process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


async def many_refs(found: PretendGitHub, name: str, count: int) -> None:
    """Give a repository so many branches more, packed as a server has them.

    Written at once, and not by git, which makes a file for each first: a kernel that has just had a hundred thousand
    files more is slower at everything that follows.
    """
    if count:
        tip = (await found.refs(name))["refs/heads/main"]
        branches = sorted(f"refs/heads/branch-{number}" for number in range(count))
        lines = "".join(f"{tip} {branch}\n" for branch in branches)
        Path(found.path(name), "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted \n{lines}")


def main(work: Any, arguments: Sequence[Any]) -> None:
    """Run a benchmark's coroutine function ``work(directory, *arguments)`` to its end."""
    os.sched_setaffinity(0, {harness.LOAD_CORE} & CORES or CORES)

    async def everything() -> None:
        with harness.scratch() as directory:
            try:
                await work(directory, *arguments)
            finally:
                shutil.rmtree(directory, ignore_errors=True)

    react(lambda _: Deferred.fromCoroutine(everything()))
