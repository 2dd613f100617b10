"""From a push to its commit visible in the mirror, by the number of refs: stackit beside plain git."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import harness
import house
import plots
from delay import DelayingProxy
from harness import Goal, Report, Table
from house import reactor
from twisted.internet.task import deferLater

STACKIT = "stackit, POST to visible"
LEAN = "git fetch of the one ref, lean flags"
FULL = "git fetch, everything"
MAIN = "refs/heads/main"
LATENCY = 0.040


async def measure(directory: Path, rounds: int, sizes: list[int]) -> None:
    table = Table(
        "One new commit, until it is visible", "ms", [*(f"{size:,} refs" for size in sizes), "10 refs, 40 ms"]
    )
    async with house.github(directory) as github:
        for size in sizes:
            await _one(directory, github, f"bench/refs-{size}", size, f"{size:,} refs", rounds, table, 0.0)
        await _one(directory, github, "bench/distant", 10, "10 refs, 40 ms", rounds, table, LATENCY)
    few, many = f"{sizes[0]:,} refs", f"{sizes[-1]:,} refs"
    medians = {row: {each: table.median(row, each) or 0.0 for each in table.columns} for row in (STACKIT, LEAN, FULL)}
    goals = [
        Goal(
            f"stackit, as a part of a lean git fetch, {few}",
            0.5,
            medians[STACKIT][few] / medians[LEAN][few],
            at_most=True,
        ),
        Goal(
            "the same with 40 ms of latency",
            0.35,
            medians[STACKIT]["10 refs, 40 ms"] / medians[LEAN]["10 refs, 40 ms"],
            at_most=True,
        ),
        Goal(
            f"stackit with {many}, as a multiple of {few}",
            1.3,
            medians[STACKIT][many] / medians[STACKIT][few],
            at_most=True,
        ),
        Goal(
            f"stackit, times faster than git fetch of everything, {many}",
            50,
            medians[FULL][many] / medians[STACKIT][many],
        ),
    ]
    notes = [
        f"{rounds} rounds, one way after the other in each",
        "loopback HTTP, git http-backend; remote on one core, mirror on the other",
        "stackit: from the first byte of the signed delivery, through journal, bus and fetch, until the ref is there",
    ]
    rows = {row: table.cells[row][many] for row in table.cells}
    picture = plots.bars(f"Push to visible, {many}, ms", rows, ours="stackit", logarithmic=True)
    Report(
        "visible",
        "A push becomes visible",
        [table],
        goals,
        notes,
        {"grokmirror": "it waits for its next poll: see sweep"},
    ).write(visible=picture)


async def _one(
    directory: Path, github: object, name: str, refs: int, column: str, rounds: int, table: Table, latency: float
) -> None:
    print(f"{column}: setting up", flush=True)
    url = await github.create(name)  # type: ignore[attr-defined]
    await github.commit(name)  # type: ignore[attr-defined]
    await house.many_refs(github, name, refs)  # type: ignore[arg-type]
    proxy = DelayingProxy(reactor, int(urlsplit(url).port or 0), latency) if latency else None
    if proxy is not None:
        url = url.replace(f":{urlsplit(url).port}/", f":{proxy.port}/")
    plain = {row: directory / f"{name.replace('/', '-')}-{number}.git" for number, row in enumerate((LEAN, FULL))}
    for path in plain.values():
        await house.git("clone", "--quiet", "--mirror", url, path)
    async with house.stackit(directory / name, {name: url}, sync={"interval": "1h"}) as server:
        if github._webhook is not None:  # type: ignore[attr-defined]
            await github._webhook.close()  # type: ignore[attr-defined]
            github._webhook = None  # type: ignore[attr-defined]
        github.webhook(server.webhook_url, server.secret)  # type: ignore[attr-defined]
        await house.cloned(server, name)

        async def by_stackit() -> float:
            moved = await github.commit(name)  # type: ignore[attr-defined]
            return await _until_visible(lambda: github.announce(moved), house.mirror(server, name), moved.after)  # type: ignore[attr-defined]

        async def by_git(row: str) -> float:
            await github.commit(name)  # type: ignore[attr-defined]
            refspec = f"+{MAIN}:{MAIN}" if row == LEAN else "+refs/*:refs/*"
            flags = house.LEAN if row == LEAN else ("--prune", "--quiet")
            began = reactor.seconds()
            await house.git(f"--git-dir={plain[row]}", "fetch", *flags, url, refspec)
            return 1000 * float(reactor.seconds() - began)

        await by_stackit()
        for _ in range(rounds):
            table.add(STACKIT, column, await by_stackit())
            for row in plain:
                table.add(row, column, await by_git(row))
        print({row: harness.number(table.median(row, column) or 0) for row in table.cells}, flush=True)
    if proxy is not None:
        await proxy.close()


async def _until_visible(announce: Callable[[], Awaitable[object]], mirror: Path, wanted: str) -> float:
    """Milliseconds from the announcement to the ref."""
    ref = mirror / MAIN
    began = reactor.seconds()
    announcing = announce()
    from twisted.internet.defer import Deferred

    answered = Deferred.fromCoroutine(announcing)  # type: ignore[arg-type]
    deadline = began + 60
    while not (ref.exists() and ref.read_text().strip() == wanted):
        if reactor.seconds() > deadline:
            raise RuntimeError(f"{wanted} was not visible within a minute")
        await deferLater(reactor, 0.0005)
    took = 1000 * float(reactor.seconds() - began)
    await answered
    return took


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--refs", type=int, nargs="+", default=[10, 1_000, 10_000, 100_000])
    given = parser.parse_args()
    house.main(measure, [given.rounds, given.refs])
