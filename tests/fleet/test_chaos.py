"""Nodes that are cut off, stopped, drained and started at random: no two of them ever own one shard."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

import pytest_twisted
from fleet_nodes import Member, Nodes
from held_link import HeldLink

from stackit.journal import Shard
from stackit.testing.postgres import PostgresServer

LEASE = 1.0
STEPS = 16


class Everyone:
    """Listens at one node of many, and looks at all of them whenever something becomes that node's."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self.looks = 0
        self.wrong: list[str] = []

    def recorded(self, works: object) -> None:
        raise AssertionError(f"membership records nothing: {works}")

    def gained(self) -> None:
        self.look()

    def lost(self, shards: Collection[Shard]) -> None:
        self.look()

    async def drain(self, shards: Collection[Shard]) -> None:
        await self.nodes.sleep(0.02)

    def look(self) -> None:
        """See whether work of one shard may begin at two nodes. Who gave a shard away may not know yet that it has."""
        self.looks += 1
        working = [
            shard for member in self.nodes.members for shard in member.ownership.epochs if member.ownership.owns(shard)
        ]
        if len(working) > len(set(working)):
            self.wrong.append(str({each.name: sorted(each.ownership.working()) for each in self.nodes.members}))


@pytest_twisted.ensureDeferred
async def test_no_two_nodes_own_a_shard_whatever_happens(nodes: Nodes, postgres_server: PostgresServer) -> None:
    seed = Random().randrange(1 << 32)
    random, everyone = Random(seed), Everyone(nodes)
    links = {name: HeldLink(nodes.reactor, postgres_server.port) for name in "abcd"}
    present: dict[str, Member] = {}

    def start(name: str) -> None:
        parts = dict(each.split("=", 1) for each in nodes.conninfo.split())
        parts |= {"host": "127.0.0.1", "port": str(links[name].port)}
        present[name] = nodes.start(
            name, lease=LEASE, rehome_after=0.5, conninfo=" ".join(f"{key}={value}" for key, value in parts.items())
        )
        present[name].fleet.listen(everyone)

    def is_undrained() -> bool:
        """Undrain all, and again who comes back to drain, as it was when it was cut off; return whether all know it."""
        if not any(member.fleet.is_draining() for member in present.values()):
            return True
        nodes.rows("UPDATE nodes SET state = 'up' WHERE state = 'draining'")
        return False

    try:
        for name in links:
            start(name)
        for _ in range(STEPS):
            name = random.choice([*links])
            match random.choice(["cut", "cut", "heal", "restart", "end", "drain", "undrain"]):
                case "cut":
                    links[name].cut()
                case "heal":
                    links[name].heal()
                case "end":
                    links[name].end()
                case "restart":
                    links[name].heal()
                    await present[name].stop()
                    start(name)
                case _ as what:
                    nodes.rows(
                        "UPDATE nodes SET state = %s WHERE name = %s AND state IN ('up', 'draining')",
                        "draining" if what == "drain" else "up",
                        name,
                    )
            await nodes.sleep(random.choice([0.0, 0.05, 0.3, 0.6]))
            everyone.look()
        for link in links.values():
            link.heal()
        await nodes.until(lambda: is_undrained() and nodes.is_divided(*present.values()))
    except AssertionError as wrong:
        raise AssertionError(f"with the seed {seed}: {wrong}") from None
    finally:
        for member in present.values():
            await member.fleet.stopService()
        for link in links.values():
            await link.close()
    assert everyone.looks > STEPS
    assert everyone.wrong == [], f"with the seed {seed}"
