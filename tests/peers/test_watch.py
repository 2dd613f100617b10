"""The look at other nodes: one that is at work and cannot be asked is told, before somebody needs it."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from clocks import as_reactor
from peer_nodes import PeerFleet
from prometheus_client import CollectorRegistry, generate_latest
from twisted.internet.task import Clock
from waiting import until

from stackit.peers.metrics import PeerMetrics
from stackit.peers.watch import ENOUGH, EVERY, PeerWatch, here_route


class Looks:
    """The watch of node a, and its clock."""

    def __init__(self, fleet: PeerFleet) -> None:
        self._node: Any = fleet.nodes["a"]
        self._clock = Clock()
        self.watch = PeerWatch(
            self._node.peers.ask, nodes=self._node.seen, reactor=as_reactor(self._clock), prefix="/api/v1"
        )
        self.watch.startService()

    async def look(self) -> None:
        """Look at all nodes once."""
        before = sum(self._node.peers.counts.values())
        self._clock.advance(EVERY)
        await until(lambda: sum(self._node.peers.counts.values()) == before + 1)
        await self.watch._looking


async def pair(fleet: PeerFleet) -> Looks:
    for name in ("a", "b"):
        await fleet.start(name, routes=[here_route(fleet.seen_from(name))])
    return Looks(fleet)


@pytest_twisted.ensureDeferred
async def test_a_node_that_cannot_be_asked_is_told_until_it_can(fleet: PeerFleet) -> None:
    looks = await pair(fleet)
    address = fleet.nodes["b"].node.address
    await looks.look()
    fleet.map.change("b", address="http://127.0.0.1:1")
    for _ in range(ENOUGH - 1):
        await looks.look()
        assert looks.watch.problems() == []
    await looks.look()
    (line,) = looks.watch.problems()
    assert "node b at http://127.0.0.1:1 does not answer" in line
    fleet.map.change("b", state="away")
    assert looks.watch.problems() == [], "that it is away is told by others"
    fleet.map.change("b", state="up", address=address)
    await looks.look()
    assert looks.watch.problems() == []
    await looks.watch.stopService()


@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_wrong_is_told_too(fleet: PeerFleet) -> None:
    looks = await pair(fleet)
    fleet.clocks["b"] = 100.0
    for _ in range(ENOUGH):
        await looks.look()
    (line,) = looks.watch.problems()
    assert "100 s apart" in line
    await looks.watch.stopService()


@pytest_twisted.ensureDeferred
async def test_what_nodes_ask_each_other_is_counted(fleet: PeerFleet) -> None:
    looks = await pair(fleet)
    a, b = fleet.nodes["a"], fleet.nodes["b"]
    registry = CollectorRegistry()
    registry.register(PeerMetrics(lambda: a.peers.counts, lambda: b.git.counts))
    await looks.look()
    fleet.clocks["b"] = 100.0
    await looks.look()
    fleet.map.change("b", address="http://127.0.0.1:1")
    await looks.look()
    text = generate_latest(registry).decode()
    for line in (
        'stackit_node_requests_total{result="answered"} 1.0',
        'stackit_node_requests_total{result="refused"} 1.0',
        'stackit_node_requests_total{result="unreachable"} 1.0',
        'stackit_node_requests_total{result="timeout"} 0.0',
        'stackit_node_gits_total{result="served"} 0.0',
        'stackit_node_gits_total{result="busy"} 0.0',
    ):
        assert line in text
    await looks.watch.stopService()
