"""Many pushes at once: fetches for each repository, the time until all are visible, and memory."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import mirror_setup
from harness import Goal, Report, Table
from mirror_setup import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.task import deferLater

from stackit.testing import Commit, PretendGitHub, RefMoved, RunningStackit

Thing = TypeVar("Thing")

ROW = "stackit"
MAIN = "refs/heads/main"


ANSWERED = "answered, per second"
VISIBLE = "all visible after, s"
MOST, MEAN = "fetches of a repository, most", "fetches of a repository, mean"
BEFORE, PEAK = "memory before, MiB", "memory at most, MiB"
CPU = "CPU of a push, ms"
PATIENCE = 300.0


async def measure(directory: Path, pushes: int, repositories: int) -> None:
    table = Table(
        f"{pushes:,} pushes over {repositories:,} repositories",
        "as named",
        [ANSWERED, VISIBLE, MOST, MEAN, CPU, BEFORE, PEAK],
    )
    each = pushes // repositories
    async with mirror_setup.github(directory) as github:
        names = [f"bench/repository-{number}" for number in range(repositories)]
        urls = {}

        async def create(name: str) -> None:
            urls[name] = await github.create(name)
            await github.commit(name)

        await _all(names, create, 4, "repositories made")
        async with mirror_setup.stackit(directory / "stackit", urls, sync={"interval": "0"}) as server:

            async def clone(name: str) -> None:
                answer = await server.sync(name)
                if answer.status != 200:
                    raise RuntimeError(f"{name} was not cloned: {answer.status} {answer.body!r}")

            # stackit clones four at a time, and each must be there within the patience of one request.
            await _all(names, clone, 8, "mirrors cloned")
            moves: dict[str, list[RefMoved]] = {}

            async def commit(name: str) -> None:
                moved = await github.commit(name, count=each)
                moves[name] = _steps(moved, await github.git(name, "rev-list", f"--max-count={each + 1}", MAIN))

            await _all(names, commit, 4, "repositories with new commits")
            github.webhook(server.webhook_url, server.secret or "")
            await _burst(github, server, names, moves, table)
    fetches = table.median(ROW, MOST)
    goals = [Goal(MOST, 2, fetches, at_most=True)]
    notes = ["deliveries come 64 at a time from the process that is also the remote: it is what limits the rate"]
    Report("burst", "A burst of pushes", [table], goals, notes, {}).write()


async def _burst(
    github: PretendGitHub,
    server: RunningStackit,
    names: list[str],
    moves: dict[str, list[RefMoved]],
    table: Table,
) -> None:
    """Send all pushes, the first ones of every repository first, and wait for the last to be visible."""
    pid = server.pid or 0
    fetched = {name: github.fetches(name) for name in names}
    asked = len(github.requests)
    table.add(ROW, BEFORE, mirror_setup.resident(pid))
    used = mirror_setup.cpu_seconds(pid)
    in_turn = [move for step in zip(*(moves[name] for name in names), strict=True) for move in step]
    began = reactor.seconds()
    refused: list[object] = []

    async def announce(move: RefMoved) -> None:
        answer = await github.announce(move)
        if answer.status != 202:
            refused.append(answer)

    answering = Deferred.fromCoroutine(_all(in_turn, announce, 64, "pushes answered"))
    answered_at = answering.addCallback(lambda _: reactor.seconds())
    memory = 0.0
    waiting = set(names)
    while waiting and not refused:
        memory = max(memory, mirror_setup.resident(pid))
        waiting = {name for name in waiting if not _shows(mirror_setup.mirror(server, name), moves[name][-1].after)}
        if reactor.seconds() - began > PATIENCE:
            raise RuntimeError(f"{len(waiting)} repositories were not visible after {PATIENCE:g} s")
        await deferLater(reactor, 0.05)
    seen = reactor.seconds()
    answered = await answered_at
    if refused:
        raise RuntimeError(f"{len(refused)} of {len(in_turn)} were not accepted: {refused[0]}")
    table.add(ROW, ANSWERED, len(in_turn) / (answered - began))
    table.add(ROW, VISIBLE, seen - began)
    # Until every handling has its end, and with the memory that takes.
    while any(name.startswith("stackit_handlings_pending") and left for name, left in (await server.metrics()).items()):
        memory = max(memory, mirror_setup.resident(pid))
        await deferLater(reactor, 0.5)
    if len(github.requests) - asked <= 0:
        raise RuntimeError("the pretend GitHub remembers its last 10,000 requests, and there were more")
    fetches = [github.fetches(name) - fetched[name] for name in names]
    table.add(ROW, MOST, max(fetches))
    table.add(ROW, MEAN, sum(fetches) / len(fetches))
    table.add(ROW, CPU, 1000 * (mirror_setup.cpu_seconds(pid) - used) / len(in_turn))
    table.add(ROW, PEAK, memory)


async def _all(things: Sequence[Thing], work: Callable[[Thing], Awaitable[object]], at_once: int, what: str) -> None:
    """Do it with every thing, so many at once, and say now and then how far it is."""
    slots = DeferredSemaphore(at_once)
    began = said = reactor.seconds()
    done = 0

    async def one(thing: Thing) -> None:
        nonlocal done, said
        await work(thing)
        done += 1
        if reactor.seconds() - said > 5 or done == len(things):
            said = reactor.seconds()
            print(f"{done:,} of {len(things):,} {what}, {said - began:.0f} s", flush=True)

    def begin(thing: Thing) -> Deferred[None]:
        return Deferred.fromCoroutine(one(thing))

    await gatherResults([slots.run(begin, thing) for thing in things])


def _steps(moved: RefMoved, listing: str) -> list[RefMoved]:
    """A move by many commits as one push for each."""
    oids = listing.split()[::-1]
    commits: dict[str, Commit] = {commit.id: commit for commit in moved.commits}
    return [
        RefMoved(repo=moved.repo, ref=moved.ref, before=before, after=after, commits=(commits[after],))
        for before, after in pairwise(oids)
    ]


def _shows(mirror: Path, wanted: str) -> bool:
    ref = mirror / MAIN
    return ref.exists() and ref.read_text().strip() == wanted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pushes", type=int, default=10_000)
    parser.add_argument("--repositories", type=int, default=500)
    given = parser.parse_args()
    mirror_setup.main(measure, [given.pushes, given.repositories])
