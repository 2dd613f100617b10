"""How quickly the pages come beside 10,000 repositories and 100,000 deliveries, and how large they are."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

import harness
import mirror_setup
from harness import Goal, Report, Table
from mirror_setup import reactor

from stackit.subprocesses import ProcessLimits, run
from stackit.testing import RunningStackit
from stackit.testing.process import SECRET

MEDIAN, SLOW, SIZE = "median, ms", "95th percentile, ms", "HTML, KB"
PAGES = {"overview": "/", "deliveries": "/deliveries", "deliveries, the dead": "/deliveries?state=dead"}
WANTED_MS, WANTED_KB = 100.0, 100.0
_BODY = 2000


async def measure(directory: Path, rounds: int, repositories: int, deliveries: int) -> None:
    table = Table(
        f"A page beside {repositories:,} repositories and {deliveries:,} deliveries", "each", [MEDIAN, SLOW, SIZE]
    )
    urls = {f"bench/mirror-{number}": "http://127.0.0.1:9/none.git" for number in range(repositories)}
    async with mirror_setup.stackit(directory / "stackit", urls, sync={"interval": "0"}) as server:
        await _fill(server, deliveries)
        one = (await server.admin("GET", "{prefix}/deliveries", limit="1")).json()["deliveries"][0]["id"]
        for name, path in {**PAGES, "one delivery": f"/deliveries/{one}"}.items():
            for _ in range(rounds):
                await _look(server, name, path, table)
    goals = [
        Goal("95th percentile of the overview, ms", WANTED_MS, table.median("overview", SLOW), at_most=True),
        Goal("HTML of the overview, KB", WANTED_KB, table.median("overview", SIZE), at_most=True),
    ]
    notes = [f"{rounds} rounds of 20 requests each; from the request to the whole HTML, on loopback, uncompressed"]
    Report("pages", "Pages", [table], goals, notes, {}).write()


async def _look(server: RunningStackit, name: str, path: str, table: Table) -> None:
    times = []
    for _ in range(20):
        began = reactor.seconds()
        answer = await server.ask("GET", server.admin_url + path)
        times.append((reactor.seconds() - began) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"{path} was answered {answer.status}")
    table.add(name, MEDIAN, statistics.median(times))
    table.add(name, SLOW, statistics.quantiles(times, n=20)[-1])
    table.add(name, SIZE, len(answer.body) / 1000)


async def _fill(server: RunningStackit, deliveries: int) -> None:
    """Send deliveries until so many were taken, from a process of its own."""
    port, path = server.webhook_url.removeprefix("http://127.0.0.1:").split("/", 1)
    argv = [sys.executable, str(harness.HERE / "load.py"), f"--port={port}", f"--path=/{path}", f"--secret={SECRET}"]
    argv += [f"--size={_BODY}", "--connections=16", "--seconds=5", "--warmup=0"]
    sent = 0
    while sent < deliveries:
        done = await run(reactor, argv, env=dict(os.environ), limits=ProcessLimits(timeout=90))
        if done.status:
            raise RuntimeError(f"the load failed: {done.stderr.decode(errors='replace')[-300:]}")
        sent += sum(json.loads(done.stdout)["statuses"].values())
        print(f"{sent:,} deliveries", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repositories", type=int, default=10_000)
    parser.add_argument("--deliveries", type=int, default=100_000)
    given = parser.parse_args()
    mirror_setup.main(measure, [given.rounds, given.repositories, given.deliveries])
