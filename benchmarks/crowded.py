"""From a push to its commit visible, beside remotes that hang and clones without end: as on an idle machine?"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import mirror_setup
from appearing import Appearing
from harness import Goal, Report, Table
from mirror_setup import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from visible import MAIN, signed

from stackit.testing import PretendGitHub, RefMoved, RunningStackit

NAME = "bench/good"
IDLE = "stackit, nothing else to do"
CROWDED = "stackit, beside what hangs and what never ends"
COLUMN = "POST to visible"
PAUSE = 0.5
"""Seconds between two rounds, so that they fall into all that happens to what hangs in that time."""


async def measure(directory: Path, rounds: int, hung: int, endless: int) -> None:
    table = Table("One new commit, until it is visible", "ms", [COLUMN])
    async with mirror_setup.github(directory) as github:
        urls = {}
        hanging = [f"bench/hung-{number}" for number in range(hung)]
        cloning = [f"bench/endless-{number}" for number in range(endless)]
        for name in (NAME, *hanging, *cloning):
            urls[name] = await github.create(name)
            await github.commit(name)
        for name in cloning:
            github.fault(name, "endless")
            urls[name] = urls[name].replace("127.0.0.1", "localhost")  # another host, or it would clone nothing else
        async with (
            mirror_setup.stackit(directory / "idle", {NAME: urls[NAME]}, sync={"interval": "10s"}) as idle,
            mirror_setup.stackit(directory / "crowded", urls, sync={"interval": "10s"}) as crowded,
        ):
            for name in (NAME, *hanging):
                await mirror_setup.cloned(crowded, name)
            await mirror_setup.cloned(idle, NAME)
            moves = [await github.commit(name) for name in hanging]
            for name in hanging:
                github.fault(name, "hang")
            for moved in moves:
                await crowded.post(signed(github, crowded, moved))
            servers = {IDLE: idle, CROWDED: crowded}
            await _rounds(github, servers, rounds, table)
            listed = (await crowded.admin("GET", "{prefix}/repos")).json()["repos"]
            states = {each["name"]: each["state"] for each in listed}
            if any(states[name] == "in_step" for name in (*hanging, *cloning)):
                raise RuntimeError("what should hang does not")
    ratio = table.ratio(CROWDED, IDLE, COLUMN)
    goals = [Goal("a push beside them, as a multiple of one on an idle machine", 1.5, ratio, at_most=True)]
    notes = [
        f"{rounds} rounds, {PAUSE:g} s apart; in each, one commit is pushed to both, each first in turn",
        f"{hung} repositories hang, with a push each and a look every 10 s; {endless} first clones make progress for "
        "ever, on another host",
    ]
    Report("crowded", "A push beside remotes that hang", [table], goals, notes, {}).write()


async def _rounds(github: PretendGitHub, servers: dict[str, RunningStackit], rounds: int, table: Table) -> None:
    refs = {
        row: Appearing(reactor, (mirror_setup.mirror(server, NAME) / MAIN).parent) for row, server in servers.items()
    }

    async def push(row: str, moved: RefMoved) -> None:
        delivered = signed(github, servers[row], moved)
        visible = refs[row].next(Path(MAIN).name)
        await deferToThread(os.sync)
        began = reactor.seconds()
        answered = Deferred.fromCoroutine(servers[row].post(delivered))
        table.add(row, COLUMN, 1000 * (await visible - began))
        await answered

    for number in range(rounds):
        moved = await github.commit(NAME)
        rows = list(servers)
        for row in rows[:: 1 if number % 2 else -1]:
            await push(row, moved)
        await deferLater(reactor, PAUSE)
    for each in refs.values():
        each.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--hung", type=int, default=40)
    parser.add_argument("--endless", type=int, default=4)
    given = parser.parse_args()
    mirror_setup.main(measure, [given.rounds, given.hung, given.endless])
