"""What deliveries notice of discovery: how long an answer takes while 10,000 repositories are found."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import harness
import mirror_setup
from harness import Goal, Report, Table
from mirror_setup import reactor
from twisted.internet.defer import Deferred

from stackit.subprocesses import ProcessLimits, run
from stackit.testing import PretendGitHub, RunningStackit
from stackit.testing.github_api.apps import PretendApp
from stackit.testing.process import SECRET

DURING, AFTER = "while they are found", "once they are known"
P50, P99, FOUND = "median, ms", "99th percentile, ms", "found after, s"
WANTED = 20.0
SIZE = 8000


async def measure(directory: Path, rounds: int, repositories: int, seconds: float) -> None:
    table = Table(f"A delivery's answer beside {repositories:,} repositories", "each round", [P50, P99, FOUND])
    async with mirror_setup.github(directory) as github:
        app = github.apps.create()
        await github.create_many("bench", repositories)
        await app.install("bench")
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", flush=True)
            await _round(directory / f"round-{number}", github, app, repositories, seconds, table)
    goal = Goal(f"99th percentile of answers {DURING}, ms", WANTED, table.median(DURING, P99), at_most=True)
    notes = [
        f"{rounds} rounds; one connection that sends the next push of {SIZE} bytes as soon as the last is answered",
        "no mirror is cloned; the pretend GitHub shares its core with the load",
    ]
    Report("discovery", "Discovery", [table], [goal], notes, {}).write()


async def _round(
    directory: Path, github: PretendGitHub, app: PretendApp, repositories: int, seconds: float, table: Table
) -> None:
    directory.mkdir()
    key = directory / "app.pem"
    key.write_text(app.private_key)
    tables: dict[str, Any] = {
        "apps": [{"name": "main", "app_id": app.id, "private_key_file": key, "api_url": github.api_url}],
        "discover": [{"app": "main"}],
        "recovery": {"enabled": False},
        "plugins": {"mirror": {"enabled": False}},
    }
    async with mirror_setup.stackit(directory / "stackit", {}, **tables) as server:
        began = reactor.seconds()
        loading = Deferred.fromCoroutine(_load(server, seconds))
        await server.until(lambda: _knows(server, repositories), "every repository to be found", 300)
        table.add(DURING, FOUND, reactor.seconds() - began)
        for row, figures in ((DURING, await loading), (AFTER, await _load(server, seconds))):
            table.add(row, P50, figures["p50_ms"])
            table.add(row, P99, figures["p99_ms"])


async def _knows(server: RunningStackit, repositories: int) -> bool:
    return bool((await server.admin("GET", "{prefix}/status")).json()["repos"] == repositories)


async def _load(server: RunningStackit, seconds: float) -> dict[str, Any]:
    """Send deliveries for so long, from a process of its own, and return what it saw."""
    port, path = server.webhook_url.removeprefix("http://127.0.0.1:").split("/", 1)
    argv = [sys.executable, str(harness.HERE / "load.py"), f"--port={port}", f"--path=/{path}", f"--secret={SECRET}"]
    argv += [f"--size={SIZE}", "--connections=1", f"--seconds={seconds}", "--warmup=0"]
    done = await run(reactor, argv, env=dict(os.environ), limits=ProcessLimits(timeout=seconds + 60))
    if done.status:
        raise RuntimeError(f"the load failed: {done.stderr.decode(errors='replace')[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repositories", type=int, default=10_000)
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        help="of deliveries, from the start on: no longer than it takes to find all",
    )
    given = parser.parse_args()
    mirror_setup.main(measure, [given.rounds, given.repositories, given.seconds])
