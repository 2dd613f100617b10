"""From a push to its commit visible in the mirror, by the number of refs: stackit beside plain git."""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import harness
import mirror_setup
import plots
from appearing import Appearing
from delay import DelayingProxy
from harness import HERE, Goal, Report, Table
from mirror_setup import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.web.server import Request

from stackit.testing import PretendGitHub, RunningStackit, SignedDelivery, delivery, push_payload
from stackit.testing.bare import RefMoved
from stackit.testing.listening import LoopbackSite
from stackit.testing.smarthttp import SmartHttp

STACKIT = "stackit, POST to visible"
TOLD = "stackit, POST to plugins told of the ref change"
LEAN = "git fetch of the one ref, lean flags"
FULL = "git fetch, everything"
MAIN = "refs/heads/main"
LATENCY = 0.040


@dataclass(frozen=True)
class Case:
    """A column: so many refs, this latency, and perhaps a remote that denies stackit the fast fetch."""

    column: str
    refs: int
    latency: float = 0.0
    old: bool = False


class WithoutVersion2(SmartHttp):
    """A remote that speaks git's protocol of before 2018: every client has to list all refs."""

    def __init__(self, github: PretendGitHub) -> None:
        super().__init__(reactor, github._git_access.admit)

    def render(self, request: Request) -> int:
        request.requestHeaders.removeHeader("Git-Protocol")
        return super().render(request)


async def measure(directory: Path, rounds: int, sizes: list[int]) -> None:
    few, many, distant, old = f"{sizes[0]:,} refs", f"{sizes[-1]:,} refs", "10 refs, 40 ms", "10 refs, protocol v0"
    # The small ones first: what a case with many refs leaves behind makes those after it slower.
    cases = [Case(few, sizes[0]), Case(distant, 10, latency=LATENCY), Case(old, 10, old=True)]
    cases += [Case(f"{size:,} refs", size) for size in sizes[1:]]
    table = Table("One new commit, until it is visible", "ms", [case.column for case in cases])
    async with mirror_setup.github(directory) as github:
        for case in cases:
            await _one(directory, github, case, rounds, table)

    def ratio(row: str, column: str, other: str, beside: str) -> float:
        return (table.median(row, column) or 0.0) / (table.median(other, beside) or 1.0)

    goals = [
        Goal(f"stackit, as a part of a lean git fetch, {few}", 0.5, ratio(STACKIT, few, LEAN, few), at_most=True),
        Goal("the same until plugins know of it", 0.5, ratio(TOLD, few, LEAN, few), at_most=True),
        Goal("the same with 40 ms of latency", 0.35, ratio(TOLD, distant, LEAN, distant), at_most=True),
        Goal(f"stackit with {many}, as a multiple of {few}", 1.3, ratio(TOLD, many, TOLD, few), at_most=True),
        Goal(f"stackit, times faster than git fetch of everything, {many}", 50, ratio(FULL, many, TOLD, many)),
        Goal(
            "where only git fetch does, as a multiple of a lean one", 1.1, ratio(STACKIT, old, LEAN, old), at_most=True
        ),
    ]
    notes = [
        f"{rounds} rounds; in each, one commit goes all ways, one after the other, and each way is the first in turn",
        "loopback HTTP, git upload-pack for each request; remote on one core, mirror on the other",
        "each begins when the disk has nothing left to write of what was before: stackit waits for it, git does not",
        "stackit: from the first byte of the signed delivery, through journal, bus and fetch, until the ref is there; "
        "and from there until a plugin has the event of the ref change, which is on disk by then",
        "protocol v0: a remote for which stackit has no fast fetch, so that git fetches the pushed ref",
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


async def _one(directory: Path, github: PretendGitHub, case: Case, rounds: int, table: Table) -> None:
    print(f"{case.column}: setting up", flush=True)
    name = f"bench/{case.column.replace(',', '').replace(' ', '-')}"
    url = await github.create(name)
    await github.commit(name)
    await mirror_setup.many_refs(github, name, case.refs)
    port = int(urlsplit(url).port or 0)
    site = LoopbackSite(reactor, WithoutVersion2(github)) if case.old else None
    proxy = DelayingProxy(reactor, port, case.latency) if case.latency else None
    for between in (site, proxy):
        if between is not None:
            url = url.replace(f":{port}/", f":{between.port}/")
    place = directory / name
    told = place / "told"
    told.mkdir(parents=True)
    plain = {row: place / f"{number}.git" for number, row in enumerate((LEAN, FULL))}
    for path in plain.values():
        await mirror_setup.git("clone", "--quiet", "--mirror", url, path)
    plugins = {"told": {"module": "told:Told", "folder": str(told)}}
    async with mirror_setup.stackit(
        place, {name: url}, HERE / "peers", sync={"interval": "1h"}, plugins=plugins
    ) as server:
        await mirror_setup.cloned(server, name)
        refs, changes = Appearing(reactor, (mirror_setup.mirror(server, name) / MAIN).parent), Appearing(reactor, told)

        async def by_stackit(moved: RefMoved) -> None:
            posted = signed(github, server, moved)
            visible, known = refs.next(Path(MAIN).name), changes.next(moved.after)
            await deferToThread(os.sync)
            began = reactor.seconds()
            answered = Deferred.fromCoroutine(server.post(posted))
            took = {STACKIT: 1000 * (await visible - began), TOLD: 1000 * (await known - began)}
            await answered
            shown = await mirror_setup.git(f"--git-dir={mirror_setup.mirror(server, name)}", "rev-parse", MAIN)
            if shown.stdout.decode().strip() != moved.after:
                raise RuntimeError(f"the mirror shows {shown.stdout!r}, and not {moved.after}")
            for row, milliseconds in took.items():
                table.add(row, case.column, milliseconds)

        async def by_git(row: str) -> None:
            flags = (*mirror_setup.LEAN, f"--negotiation-tip={MAIN}") if row == LEAN else ("--prune", "--quiet")
            refspec = f"+{MAIN}:{MAIN}" if row == LEAN else "+refs/*:refs/*"
            await deferToThread(os.sync)
            began = reactor.seconds()
            await mirror_setup.git(f"--git-dir={plain[row]}", "fetch", *flags, url, refspec)
            table.add(row, case.column, 1000 * float(reactor.seconds() - began))

        for number in range(rounds):
            moved = await github.commit(name)
            ways = [partial(by_stackit, moved), *(partial(by_git, row) for row in plain)]
            for way in (*ways[number % 3 :], *ways[: number % 3]):
                await way()
        print({row: harness.number(table.median(row, case.column) or 0) for row in table.cells}, flush=True)
        refs.close()
        changes.close()
    if proxy is not None:
        await proxy.close()
    if site is not None:
        await site.close()


def signed(github: PretendGitHub, server: RunningStackit, moved: RefMoved) -> SignedDelivery:
    payload = push_payload(
        moved.repo,
        moved.ref,
        moved.before,
        moved.after,
        commits=moved.commits,
        repository_object=github.repository(moved.repo),
    )
    return delivery("push", payload, secret=server.secret or "")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--refs", type=int, nargs="+", default=[10, 1_000, 10_000, 100_000])
    given = parser.parse_args()
    mirror_setup.main(measure, [given.rounds, given.refs])
