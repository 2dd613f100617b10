"""A soak of a fleet: three nodes under load, with faults injected at random one after the other.

``make soak-fleet MINUTES=60``. Nodes are killed, frozen, cut off from the database and restarted; the database crashes,
freezes and cuts its clients off. At the end everything must be handled, in order, and nothing side by side with itself.
Exit status 0 says that it was so; 1 is printed with what was not. ``--seed`` repeats the choice of faults.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

from fleet_load import Load
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.threads import deferToThread

from stackit.api.reactor import sleep
from stackit.testing import FleetNode, PostgresServer, RunningFleet

REPOS = [f"octo/soak-{number}" for number in range(15)]
LONGEST = 6.0
"""Seconds that a fault lasts at most: three times the lease."""


class Faults:
    """What goes wrong with the nodes and with their database. Each is over before the next begins."""

    def __init__(self, reactor: Any, fleet: RunningFleet, server: PostgresServer, load: Load, random: Random) -> None:
        self._reactor = reactor
        self._fleet = fleet
        self._server = server
        self._load = load
        self._random = random
        self._of_nodes = (self._kill, self._restart, self._freeze, self._cut, self._reset)
        self._of_database = (self._crash, self._away, self._freeze_database, self._cut_clients)

    async def inject(self) -> str:
        """Inject one, and return what it was."""
        if self._random.random() < 0.7:
            fault: Callable[[FleetNode], Awaitable[None]] = self._random.choice(self._of_nodes)
            node = self._random.choice(list(self._fleet.nodes.values()))
            await fault(node)
            return f"{fault.__name__} {node.name}"
        of_database = self._random.choice(self._of_database)
        await of_database()
        return of_database.__name__

    async def _while(self) -> None:
        await sleep(self._reactor, self._random.uniform(0.0, LONGEST))

    async def _kill(self, node: FleetNode) -> None:
        pid = node.pid
        await node.kill()
        self._load.stopped(pid)
        await self._while()
        await node.start()

    async def _restart(self, node: FleetNode) -> None:
        status = await node.stop()
        if status != 0:
            raise AssertionError(f"{node.name} ended with status {status}:\n{node.log[-4000:]}")
        await node.start()

    async def _freeze(self, node: FleetNode) -> None:
        node.pause()
        self._load.stopped(node.pid)
        await self._while()
        node.resume()

    async def _cut(self, node: FleetNode) -> None:
        node.cut()
        await self._while()
        node.heal()

    async def _reset(self, node: FleetNode) -> None:
        node.reset()

    async def _crash(self) -> None:
        await deferToThread(self._server.restart, "immediate")

    async def _away(self) -> None:
        await deferToThread(self._server.kill)
        await self._while()
        await deferToThread(self._server.start)

    async def _freeze_database(self) -> None:
        self._server.pause()
        await self._while()
        self._server.resume()

    async def _cut_clients(self) -> None:
        await deferToThread(self._server.cut_connections)


async def soak(reactor: Any, minutes: float, seed: int) -> None:
    random = Random(seed)
    with tempfile.TemporaryDirectory() as directory, PostgresServer() as server:
        load = Load(Path(directory) / "load")
        settings: dict[str, Any] = {"config": load.config, "environment": load.environment}
        fleet = RunningFleet(reactor, Path(directory), server.database(), **settings)
        faults = Faults(reactor, fleet, server, load, random)
        try:
            await fleet.start()
            sending = Deferred.fromCoroutine(load.send(fleet, REPOS, sys.maxsize, pause=0.1, takes=0.05))
            until = time.monotonic() + 60 * minutes
            while time.monotonic() < until and not sending.called:
                await sleep(reactor, random.uniform(0.2, 2.0))
                print(f"{time.strftime('%H:%M:%S')} {await faults.inject()}: {len(load.sent)} taken", flush=True)
            load.is_enough = True
            await sending
            await load.all_done(fleet)
            load.check()
            check_logs(fleet)
        finally:
            load.stop()
            await fleet.stop()
    print(f"{len(load.sent)} taken; none lost, none out of order, {len(load.twice())} done twice, seed {seed}")


def check_logs(fleet: RunningFleet) -> None:
    """Check that no node told of a fault of stackit's own."""
    for node in fleet.nodes.values():
        wrong = [line for line in node.log.splitlines() if " critical [" in line or "Traceback" in line]
        if wrong:
            raise AssertionError(f"{node.name}: {wrong[:5]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=Random().randrange(2**32), help="of the choice of faults")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    react(lambda reactor: Deferred.fromCoroutine(soak(reactor, given.minutes, given.seed)))


if __name__ == "__main__":
    main()
