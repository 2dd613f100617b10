"""Many pushes at once: fetches for each repository, the time until all are visible, and memory."""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import house
from harness import Goal, Report, Table
from house import reactor
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.internet.task import deferLater

from stackit.testing import Commit, RefMoved

ROW = "stackit"
MAIN = "refs/heads/main"


async def measure(directory: Path, pushes: int, repositories: int) -> None:
    columns = [
        "answered, per second",
        "all visible after, s",
        "fetches of a repository, most",
        "fetches of a repository, mean",
        "memory before, MiB",
        "memory at most, MiB",
    ]
    table = Table(f"{pushes:,} pushes over {repositories:,} repositories", "as named", columns)
    each = pushes // repositories
    async with house.github(directory) as github:
        names = [f"bench/repository-{number}" for number in range(repositories)]
        urls = {name: await github.create(name) for name in names}
        for name in names:
            await github.commit(name)
        async with house.stackit(directory / "stackit", urls, sync={"interval": "0"}) as server:
            sixteen = DeferredSemaphore(16)
            await gatherResults(
                [sixteen.run(lambda name=name: Deferred.fromCoroutine(server.sync(name))) for name in names]
            )
            moves = {
                name: _steps(
                    await github.commit(name, count=each),
                    await github.git(name, "rev-list", f"--max-count={each + 1}", MAIN),
                )
                for name in names
            }
            github.webhook(server.webhook_url, server.secret or "")
            before = {name: github.fetches(name) for name in names}
            pid = server.pid or 0
            table.add(ROW, "memory before, MiB", house.resident(pid))
            began = reactor.seconds()
            posts = DeferredSemaphore(64)
            answers = gatherResults(
                [
                    posts.run(lambda move=move: Deferred.fromCoroutine(github.announce(move)))
                    for step in range(each)
                    for move in (moves[name][step] for name in names)
                ]
            )
            memory = 0.0
            answered = None
            waiting = set(names)
            while waiting:
                memory = max(memory, house.resident(pid))
                waiting = {name for name in waiting if not _shows(house.mirror(server, name), moves[name][-1].after)}
                if answered is None and answers.called:
                    answered = reactor.seconds()
                await deferLater(reactor, 0.02)
            seen = reactor.seconds()
            found = await answers
            refused = [answer for answer in found if answer.status != 202]
            if refused:
                raise RuntimeError(f"{len(refused)} of {pushes} were not accepted: {refused[0]}")
            table.add(ROW, columns[0], pushes / ((answered or reactor.seconds()) - began))
            table.add(ROW, columns[1], seen - began)
            # The pretend GitHub remembers its last 10,000 requests.
            fetches = [github.fetches(name) - before[name] for name in names]
            table.add(ROW, columns[2], max(fetches))
            table.add(ROW, columns[3], sum(fetches) / len(fetches))
            table.add(ROW, columns[5], memory)
    goals = [Goal("fetches of a repository, most", 2, float(max(fetches)), at_most=True)]
    notes = ["deliveries come 64 at a time from the process that is also the remote: it is what limits the rate"]
    Report("burst", "A burst of pushes", [table], goals, notes, {}).write()


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
    house.main(measure, [given.pushes, given.repositories])
