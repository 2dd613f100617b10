"""The first clone of a repository, by the number of its refs: stackit beside plain git."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import mirror_setup
from harness import Goal, Report, Table
from mirror_setup import reactor

from stackit.testing import RunningStackit

STACKIT = "stackit, until every ref is told of"
MIRROR = "git clone --mirror"
FETCH = "git init and git fetch"
ALL = "+refs/*:refs/*"


async def measure(directory: Path, rounds: int, sizes: list[int]) -> None:
    table = Table("A first clone", "s", [f"{size:,} refs" for size in sizes])
    async with mirror_setup.github(directory) as github:
        for size in sizes:
            name, column = f"bench/refs-{size}", f"{size:,} refs"
            url = await github.create(name)
            await github.commit(name)
            await mirror_setup.many_refs(github, name, size)
            for number in range(rounds):
                print(f"{column}: round {number + 1} of {rounds}", flush=True)
                place = directory / f"{size}-{number}"
                async with mirror_setup.stackit(place, {name: url}, sync={"interval": "1h"}) as server:
                    await mirror_setup.cloned(server, name)
                    table.add(STACKIT, column, await _seconds(server))
                began = reactor.seconds()
                await mirror_setup.git("clone", "--quiet", "--mirror", url, place / "mirror.git")
                table.add(MIRROR, column, reactor.seconds() - began)
                began = reactor.seconds()
                await mirror_setup.git("init", "--quiet", "--bare", place / "fetch.git")
                await mirror_setup.git(
                    f"--git-dir={place / 'fetch.git'}", "fetch", *mirror_setup.LEAN, "--atomic", url, ALL
                )
                table.add(FETCH, column, reactor.seconds() - began)
                shutil.rmtree(place)  # what is left behind makes the next slower
    many = table.columns[-1]
    ratio = (table.median(STACKIT, many) or 0.0) / (table.median(MIRROR, many) or 1.0)
    goals = [Goal(f"stackit, as a multiple of git clone --mirror, {many}", 2, ratio, at_most=True)]
    notes = [
        f"{rounds} rounds; a repository of one commit, loopback HTTP; remote on one core, client on the other",
        "stackit: its own figure for the first look; it lists the refs, clones, reads them, and tells plugins of each",
    ]
    Report("clone", "A first clone", [table], goals, notes, {}).write()


async def _seconds(server: RunningStackit) -> float:
    """What the only look so far took."""
    metrics = (await server.admin("GET", "/metrics")).body.decode()
    found = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    if float(found["stackit_mirror_sync_seconds_count"]) != 1:
        raise RuntimeError("stackit looked more than once")
    return float(found["stackit_mirror_sync_seconds_sum"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--refs", type=int, nargs="+", default=[10, 1_000, 100_000])
    given = parser.parse_args()
    mirror_setup.main(measure, [given.rounds, given.refs])
