"""What it costs to find that nothing changed: client CPU for each unchanged mirror."""

from __future__ import annotations

import argparse
from pathlib import Path

import house
import plots
from harness import Goal, Report, Table
from house import reactor
from twisted.internet.task import deferLater

STACKIT, FETCH, LS_REMOTE = "stackit's backstop", "git fetch", "git ls-remote"
CPU, WALL = "client CPU, ms", "wall, ms"


async def measure(directory: Path, repositories: int, rounds: int, interval: int) -> None:
    table = Table("One unchanged mirror", "for each", [CPU, WALL])
    async with house.github(directory) as github:
        urls = {}
        for number in range(repositories):
            name = f"bench/repository-{number}"
            urls[name] = await github.create(name)
            await github.commit(name)
        plain = {}
        for name, url in urls.items():
            plain[name] = directory / "plain" / f"{name}.git"
            await house.git("clone", "--quiet", "--mirror", url, plain[name])
        async with house.stackit(directory / "idle", urls, sync={"interval": "0"}) as server:
            for name in urls:
                await server.sync(name)
            resting = await _used(server.pid or 0, interval)
        (directory / "idle").rename(directory / "busy")
        async with house.stackit(directory / "busy", urls, sync={"interval": f"{interval}s"}) as server:
            await deferLater(reactor, 2 * interval)  # the first look is a full one
            for _ in range(rounds):
                await _stackit(table, server.pid or 0, interval, repositories, resting)
                for row, command in ((FETCH, "fetch"), (LS_REMOTE, "ls-remote")):
                    await _plain(table, row, command, plain, urls)
    ratio = table.ratio(STACKIT, FETCH, CPU)
    goals = [Goal("client CPU of an unchanged mirror, as a part of a no-change git fetch", 1 / 30, ratio, at_most=True)]
    notes = [
        f"{repositories} unchanged mirrors, {rounds} rounds, loopback HTTP",
        f"stackit: CPU of the daemon and its children over one interval of {interval} s, less what it uses at rest",
    ]
    skipped = {"grokmirror": "it compares a manifest that only a grokmirror server has, and asks no ordinary remote"}
    picture = plots.bars(
        "Client CPU of an unchanged mirror, ms",
        {row: table.cells[row][CPU] for row in table.cells},
        ours="stackit",
        logarithmic=True,
    )
    Report("sweep", "Nothing changed", [table], goals, notes, skipped).write(sweep=picture)


async def _used(pid: int, seconds: float) -> float:
    before = house.cpu_seconds(pid)
    await deferLater(reactor, seconds)
    return house.cpu_seconds(pid) - before


async def _stackit(table: Table, pid: int, interval: float, repositories: int, resting: float) -> None:
    used = await _used(pid, interval)
    table.add(STACKIT, CPU, max(1000 * (used - resting) / repositories, 0.001))


async def _plain(table: Table, row: str, command: str, plain: dict[str, Path], urls: dict[str, str]) -> None:
    began = reactor.seconds()
    used = 0.0
    for name, path in plain.items():
        refspecs = ("+refs/*:refs/*",) if command == "fetch" else ()
        used += await house.git_cpu(f"--git-dir={path}", command, "--quiet", urls[name], *refspecs)
    table.add(row, CPU, 1000 * used / len(plain))
    table.add(row, WALL, 1000 * (reactor.seconds() - began) / len(plain))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--interval", type=int, default=10, help="seconds between two sweeps of stackit's")
    given = parser.parse_args()
    house.main(measure, [given.repositories, given.rounds, given.interval])
