"""A part that works at the leader of a fleet alone."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from shared_journals import PretendNode
from twisted.internet.defer import Deferred

from stackit.api.nodes import Alone
from stackit.service.leading import AtLeader


class Part:
    """Writes down when it was started and stopped; a stop takes until ``ended`` fires."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ended: list[Deferred[None]] = []

    def start(self) -> None:
        self.told.append("start")

    async def stop(self) -> None:
        self.told.append("stop")
        ended: Deferred[None] = Deferred()
        self.ended.append(ended)
        await ended
        self.told.append("stopped")


def made(nodes: Any) -> tuple[Part, AtLeader]:
    part: Any = Part()
    return part, AtLeader(part, nodes)


@pytest_twisted.ensureDeferred
async def test_without_a_fleet_a_part_starts_and_stops_as_it_is_told() -> None:
    part, at_leader = made(Alone())
    at_leader.start()
    assert part.told == ["start"]
    stopping = Deferred.fromCoroutine(at_leader.stop())
    assert part.told == ["start", "stop"]
    part.ended[0].callback(None)
    await stopping
    assert part.told == ["start", "stop", "stopped"]


@pytest_twisted.ensureDeferred
async def test_a_part_runs_while_its_node_leads_and_a_start_waits_for_the_last_stop() -> None:
    node = PretendNode("a", leads=False)
    part, at_leader = made(node)
    at_leader.start()
    assert part.told == []
    node.lead(True)
    assert part.told == ["start"]
    node.lead(False)
    node.lead(True)
    assert part.told == ["start", "stop"]
    part.ended[0].callback(None)
    assert part.told == ["start", "stop", "stopped", "start"]
    node.lead(False)
    stopping = Deferred.fromCoroutine(at_leader.stop())
    part.ended[1].callback(None)
    await stopping
    node.lead(True)
    assert part.told == ["start", "stop", "stopped"] * 2


@pytest_twisted.ensureDeferred
async def test_a_part_that_never_ran_is_not_stopped() -> None:
    node = PretendNode("a", leads=False)
    part, at_leader = made(node)
    at_leader.start()
    await at_leader.stop()
    assert part.told == []
