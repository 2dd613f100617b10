"""What it costs to find that nothing changed: client CPU for each mirror, time for all, and how even the load is."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path
from typing import Any

import grok
import mirror_setup
import plots
from harness import Goal, Report, Table
from mirror_setup import reactor
from twisted.internet.task import deferLater

from stackit.testing import PretendGitHub
from stackit.testing.smarthttp import SmartHttp

STACKIT, FETCH, LS_REMOTE = "stackit's backstop", "git fetch", "git ls-remote"
GROK = "grokmirror (its manifest unchanged)"
CPU, WALL = "client CPU, ms", "wall, ms"
BUCKETS = 10


async def measure(directory: Path, repositories: int, rounds: int, interval: int, crowd: int) -> None:
    one = Table("One unchanged mirror", "for each", [CPU, WALL])
    every = Table(f"{crowd:,} unchanged mirrors", "one sweep", ["seconds", "largest tenth of an interval / mean"])
    changed = Table(f"grokmirror, one of {repositories} changed", "one pull", [CPU, WALL])
    async with mirror_setup.github(directory) as github:
        urls = {}
        for number in range(repositories):
            name = f"bench/repository-{number}"
            urls[name] = await github.create(name)
            await github.commit(name)
        plain = {}
        for name, url in urls.items():
            plain[name] = directory / "plain" / f"{name}.git"
            await mirror_setup.git("clone", "--quiet", "--mirror", url, plain[name])
        skipped = {"grokmirror": why} if (why := grok.missing()) else {}
        if not skipped:
            try:
                await _grokmirror(directory, github, list(urls), rounds, one, changed)
            except RuntimeError as problem:
                skipped = {"grokmirror": str(problem)}
        async with mirror_setup.stackit(directory / "idle", urls, sync={"interval": "0"}) as server:
            for name in urls:
                await server.sync(name)
            resting = await _used(server.pid or 0, interval)
        (directory / "idle").rename(directory / "busy")
        async with mirror_setup.stackit(directory / "busy", urls, sync={"interval": f"{interval}s"}) as server:
            await deferLater(reactor, 2 * interval)  # the first look is a full one
            for _ in range(rounds):
                await _stackit(one, server.pid or 0, interval, repositories, resting)
                for row, command in ((FETCH, "fetch"), (LS_REMOTE, "ls-remote")):
                    await _plain(one, row, command, plain, urls)
        await _crowd(directory, github, urls, rounds, crowd, every)
    tables = [one, every] if skipped else [one, every, changed]
    ratio = one.ratio(STACKIT, FETCH, CPU)
    goals = [
        Goal("client CPU of an unchanged mirror, as a part of a no-change git fetch", 1 / 30, ratio, at_most=True),
        Goal(f"seconds to look at {crowd:,} unchanged mirrors", 5, every.median(STACKIT, "seconds"), at_most=True),
        Goal(
            "requests in the fullest tenth of an interval, as a multiple of the mean",
            1.5,
            every.median(STACKIT, "largest tenth of an interval / mean"),
            at_most=True,
        ),
    ]
    notes = [
        f"{repositories} unchanged mirrors, {rounds} rounds, loopback HTTP",
        f"stackit: CPU of the daemon and its children over one interval of {interval} s, less what it uses at rest",
        f"{crowd:,} mirrors: the remote answers from memory, or its own work would be what is measured; seconds are "
        "those for so many answers, with an interval too short for them; tenths are counted with one of 20 s",
    ]
    if not skipped:
        notes.append(
            "grokmirror asks no remote for its refs: it compares one manifest, that a grokmirror at the server's end "
            "has to write; CPU of one pull, divided by the mirrors"
        )
    picture = plots.bars(
        "Client CPU of an unchanged mirror, ms",
        {row: one.cells[row][CPU] for row in one.cells},
        ours="stackit",
        logarithmic=True,
    )
    Report("sweep", "Nothing changed", tables, goals, notes, skipped).write(sweep=picture)


async def _used(pid: int, seconds: float) -> float:
    before = _cpu(pid)
    await deferLater(reactor, seconds)
    return _cpu(pid) - before


def _cpu(pid: int) -> float:
    """CPU seconds of a process, to the nanosecond, and of its children that have ended."""
    threads = [int((each / "schedstat").read_text().split()[0]) for each in Path(f"/proc/{pid}/task").iterdir()]
    children = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]
    return sum(threads) / 1e9 + sum(map(int, children)) / os.sysconf("SC_CLK_TCK")


async def _stackit(table: Table, pid: int, interval: float, repositories: int, resting: float) -> None:
    used = await _used(pid, interval)
    table.add(STACKIT, CPU, max(1000 * (used - resting) / repositories, 0.001))


async def _plain(table: Table, row: str, command: str, plain: dict[str, Path], urls: dict[str, str]) -> None:
    began = reactor.seconds()
    used = 0.0
    for name, path in plain.items():
        refspecs = ("+refs/*:refs/*",) if command == "fetch" else ()
        used += await mirror_setup.git_cpu(f"--git-dir={path}", command, "--quiet", urls[name], *refspecs)
    table.add(row, CPU, 1000 * used / len(plain))
    table.add(row, WALL, 1000 * (reactor.seconds() - began) / len(plain))


async def _grokmirror(
    directory: Path, github: PretendGitHub, names: list[str], rounds: int, one: Table, changed: Table
) -> None:
    remote = github.path(names[0]).parent.parent
    async with grok.grokmirror(directory / "grok", remote, github.url(names[0]).partition("/bench/")[0]) as peer:
        await peer.write()
        await peer.pull()  # clones
        for number in range(rounds):
            used, took = await peer.pull()
            one.add(GROK, CPU, 1000 * used / len(names))
            one.add(GROK, WALL, 1000 * took / len(names))
            await github.commit(names[number])
            await peer.write()
            used, took = await peer.pull()
            changed.add("grokmirror", CPU, 1000 * used)
            changed.add("grokmirror", WALL, 1000 * took)


async def _crowd(
    directory: Path, github: PretendGitHub, urls: dict[str, str], rounds: int, crowd: int, table: Table
) -> None:
    """Many mirrors, all of them copies of one."""
    name, url = next(iter(urls.items()))
    state = directory / "busy" / "state" / "mirrors"
    names = [f"crowd/repository-{number}" for number in range(crowd)]
    for each in names:
        copy = directory / "crowd" / "state" / "mirrors" / f"{each}.git"
        shutil.copytree(state / f"{name}.git", copy)
        (copy / "stackit-object-digest").unlink(missing_ok=True)  # it knows its files by their place
    (directory / "crowd" / "state").chmod(0o700)
    moments: list[float] = []
    with _answering_from_memory(moments):
        for interval in (1, 20):
            async with mirror_setup.stackit(
                directory / "crowd", dict.fromkeys(names, url), sync={"interval": f"{interval}s"}
            ) as server:
                await mirror_setup.in_step(server)
                await deferLater(reactor, max(2 * interval, 5))  # the first rounds ask git
                for _ in range(rounds):
                    moments.clear()
                    if interval == 1:
                        await server.until(_have(moments, crowd), f"{crowd} looks", 600)
                        table.add(STACKIT, "seconds", moments[crowd - 1] - moments[0])
                    else:
                        await deferLater(reactor, interval)
                        table.add(STACKIT, table.columns[1], _flatness(moments, interval))


def _have(moments: list[float], count: int) -> Any:
    async def enough() -> bool:
        return len(moments) >= count

    return enough


def _flatness(moments: list[float], interval: float) -> float:
    """How much more than the mean the fullest tenth of an interval has."""
    tenths = [0] * BUCKETS
    for moment in moments:
        tenths[int((moment - moments[0]) / interval * BUCKETS) % BUCKETS] += 1
    return max(tenths) * BUCKETS / len(moments)


class _answering_from_memory:  # noqa: N801 - used as one
    """Meanwhile the pretend GitHub answers the same question by the same answer; ``moments`` is when it did."""

    def __init__(self, moments: list[float]) -> None:
        self._moments = moments
        self._backend = SmartHttp._backend
        self._known: dict[tuple[Path, bytes], Any] = {}

    def __enter__(self) -> None:
        async def backend(site: SmartHttp, request: Any, path: Path, service: str, body: bytes) -> Any:
            if b"command=ls-refs" not in body:
                return await self._backend(site, request, path, service, body)
            if (path, body) not in self._known:
                self._known[path, body] = await self._backend(site, request, path, service, body)
            self._moments.append(reactor.seconds())
            return self._known[path, body]

        SmartHttp._backend = backend  # type: ignore[assignment, method-assign]  # meanwhile

    def __exit__(self, *_: object) -> None:
        SmartHttp._backend = self._backend  # type: ignore[method-assign]  # as it was


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--interval", type=int, default=10, help="seconds between two sweeps of stackit's")
    parser.add_argument("--crowd", type=int, default=1_000, help="mirrors that are looked at as fast as can be")
    given = parser.parse_args()
    mirror_setup.main(measure, [given.repositories, given.rounds, given.interval, given.crowd])
