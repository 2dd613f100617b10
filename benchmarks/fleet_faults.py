"""How long a fleet needs to go on after a fault: three nodes under load. Prints what it saw as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import fleet_setup
import harness
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from stackit.api.reactor import sleep
from stackit.testing import PostgresServer, RunningFleet
from stackit.testing.postgres import database_of

sys.path.append(str(harness.HERE.parent / "tests" / "support"))
from fleet_load import Load

LEASE = 3.0
REPOS = [f"octo/widget-{number}" for number in range(20)]

Fault = Callable[[RunningFleet, PostgresServer, Load], Awaitable[None]]


async def killed(fleet: RunningFleet, _server: PostgresServer, load: Load) -> None:
    pid = fleet["b"].pid
    await fleet["b"].kill()
    load.stopped(pid)


async def frozen(fleet: RunningFleet, _server: PostgresServer, load: Load) -> None:
    fleet["b"].pause()
    load.stopped(fleet["b"].pid)


async def stopped(fleet: RunningFleet, _server: PostgresServer, _load: Load) -> None:
    await fleet["b"].stop()


async def cut_off(fleet: RunningFleet, _server: PostgresServer, _load: Load) -> None:
    fleet["b"].cut()


async def restarted(_fleet: RunningFleet, server: PostgresServer, _load: Load) -> None:
    await deferToThread(server.restart, "immediate")


async def promoted(_fleet: RunningFleet, server: PostgresServer, _load: Load) -> None:
    await deferToThread(server.kill)
    await deferToThread(server.standbys[0].promote)


FAULTS: dict[str, Fault] = {
    "kill -9 of a node": killed,
    "SIGSTOP of a node": frozen,
    "a node is cut off from the database": cut_off,
    "SIGTERM of a node": stopped,
    "restart -m immediate of the database": restarted,
    "the primary is killed, its standby promoted at once": promoted,
}


async def measure(reactor: Any, fault: Fault, seconds: float) -> dict[str, Any]:
    """Load for so many seconds on each side of a fault: the slowest from 202 to done, and what went wrong."""
    with harness.scratch() as directory, fleet_setup.database(directory) as (server, primary):
        conninfo = primary
        if fault is promoted:
            standby = server.standby("s1")
            server.wait_for_standbys("s1")
            conninfo = (
                f"host={server.directory},{standby.directory} port={server.port},{standby.port} "
                f"dbname={database_of(primary)} user=stackit target_session_attrs=read-write"
            )
        load = Load(directory / "load")
        settings: dict[str, Any] = {"config": load.config, "environment": load.environment}
        fleet = RunningFleet(reactor, directory, conninfo, fleet={"lease": f"{LEASE:g}s"}, **settings)
        try:
            await fleet.start()
            sending = Deferred.fromCoroutine(load.send(fleet, REPOS, 100_000, pause=0.05, takes=0.02))
            await sleep(reactor, seconds)
            await fault(fleet, server, load)
            await sleep(reactor, seconds + LEASE)
            load.is_enough = True
            await sending
            await load.all_done(fleet)
        finally:
            await fleet.stop()
        return {
            "slowest": load.slowest(),
            "answer": max(sent.taken - sent.at for sent in load.sent),
            "sent": len(load.sent),
            "lost": len(load.missing()),
            "disorder": len(load.disorder()),
            "overlaps": len(load.overlaps()),
            "twice": len(load.twice()),
        }


async def run(reactor: Any, seconds: float) -> None:
    found = {}
    for name, fault in FAULTS.items():
        found[name] = await measure(reactor, fault, seconds)
        print(f"  {name}: {found[name]}", file=sys.stderr, flush=True)
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load on each side of a fault")
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(run(reactor, given.seconds)))


if __name__ == "__main__":
    main()
