"""The routes and the metrics of a fleet, and what it sees of its database."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import pytest_twisted
from fleet_nodes import Member, Nodes
from twisted.internet.task import Clock

from stackit.api.admin import AdminRequest
from stackit.api.errors import JournalError
from stackit.fleet.answers import DatabaseState, FleetAnswer
from stackit.fleet.database import DatabaseWatch
from stackit.fleet.metrics import FleetMetrics
from stackit.fleet.placement import place
from stackit.fleet.routes import fleet_routes, overview
from stackit.testing.postgres import PostgresServer


async def two(nodes: Nodes) -> tuple[Member, Member]:
    a, b = nodes.start("a"), nodes.start("b", roles=("receive", "handle"))
    placed = place(["a", "b"], nodes.shards)
    parts = [{number for number, owner in placed.items() if owner == name} for name in "ab"]
    await nodes.until(lambda: [a.owns("e"), b.owns("e")] == parts and len(a.owns("m")) == nodes.shards)
    return a, b


def by_name(answer: FleetAnswer) -> dict[str, dict[str, Any]]:
    return {node.name: msgspec.to_builtins(node) for node in answer.nodes}


@pytest_twisted.ensureDeferred
async def test_every_node_tells_of_all_and_who_does_what(nodes: Nodes) -> None:
    a, b = await two(nodes)
    await b.look()
    await nodes.until(lambda: b.fleet.problems() == [])
    seen = overview(b.fleet, DatabaseState("15.4", 1, 0, None))
    assert (seen.node, seen.shards, seen.unowned) == ("b", nodes.shards, {"handlers": 0, "mirrors": 0})
    assert seen.problems == []
    assert 0 < seen.lease_left <= 54
    rows = by_name(seen)
    assert list(rows) == ["a", "b"]
    assert [rows[name]["here"] for name in rows] == [False, True]
    assert sum(rows[name]["leader"] for name in rows) == 1
    assert (rows["a"]["handlers"], rows["b"]["handlers"]) == (len(a.owns("e")), len(b.owns("e")))
    assert (rows["a"]["mirrors"], rows["a"]["homes"], rows["b"]["mirrors"]) == (nodes.shards, nodes.shards, 0)
    assert rows["b"]["roles"] == ("receive", "handle")


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_drained_gives_its_work_away_and_takes_it_again(nodes: Nodes) -> None:
    a, b = await two(nodes)
    routes = {each.path.rpartition("/")[2]: each.handler for each in fleet_routes(a.fleet, lambda: None, list)}

    async def ask(what: str, node: str) -> tuple[int, Any]:
        request = AdminRequest(method="POST", path="/", query={}, args={"node": node}, body=b"")
        response: Any = await routes[what](request)  # type: ignore[misc]
        return response.status, msgspec.to_builtins(response.body)

    assert await ask("drain", "b") == (202, {"node": "b", "draining": True, "warning": None})
    await nodes.until(lambda: len(a.owns("e")) == nodes.shards)
    assert by_name(overview(a.fleet, None))["b"]["state"] == "draining"
    warning = "it goes on to receive, handle, mirror: no other node that is up does"
    assert await ask("drain", "a") == (202, {"node": "a", "draining": True, "warning": warning})
    assert await ask("undrain", "b") == (202, {"node": "b", "draining": False, "warning": None})
    await nodes.until(lambda: len(b.owns("e")) == nodes.shards)
    warning = "it goes on to mirror: no other node that is up does"
    assert await ask("drain", "a") == (202, {"node": "a", "draining": True, "warning": warning})
    status, answer = await ask("drain", "nobody")
    assert status == 404
    assert answer["error"] == "no node nobody is at work: at work are a, b"


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_gone_is_shown_as_away_with_the_mirrors_that_wait_for_it(nodes: Nodes) -> None:
    a, b = await two(nodes)
    await a.stop()
    await nodes.until(lambda: by_name(overview(b.fleet, None))["a"]["state"] == "away")
    await nodes.until(lambda: len(b.owns("e")) == nodes.shards and b.fleet.leads())
    await b.look()
    seen = overview(b.fleet, None)
    rows = by_name(seen)
    assert (rows["a"]["mirrors"], rows["a"]["homes"]) == (0, nodes.shards)
    assert seen.unowned == {"handlers": 0, "mirrors": nodes.shards}
    assert rows["b"]["leader"]
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in FleetMetrics(b.fleet, lambda: None).collect()
        for sample in family.samples
    }
    assert values["stackit_fleet_nodes", "away"] == values["stackit_fleet_nodes", "up"] == 1
    assert values["stackit_fleet_shards", "handlers"] == nodes.shards
    assert values["stackit_fleet_unowned_shards", "mirrors"] == nodes.shards
    assert values["stackit_fleet_leader",] == 1
    assert values["stackit_database_up",] == 0


@pytest_twisted.ensureDeferred
async def test_a_database_that_was_away_is_looked_at_as_soon_as_it_answers_and_not_at_its_next_turn() -> None:
    answers: list[DatabaseState | JournalError] = [JournalError("away"), DatabaseState("15.4", 1, 0, None)]
    asked = 0

    async def ask(_question: object) -> DatabaseState:
        nonlocal asked
        asked += 1
        answer = answers.pop(0)
        if isinstance(answer, JournalError):
            raise answer
        return answer

    clock = Clock()
    watch = DatabaseWatch(ask, required=0, reactor=clock)
    watch.look_again()  # it has not begun
    assert asked == 0
    watch.startService()
    assert (watch.state, asked) == (None, 1)
    watch.look_again()
    assert watch.state is not None
    watch.look_again()  # it is known
    assert asked == 2
    watch.stopService()


@pytest.fixture(scope="module")
def replicated() -> Any:
    """A server with a standby that every commit waits for."""
    with PostgresServer() as server:
        server.standby("s1")
        server.wait_for_standbys("s1")
        yield server


@pytest_twisted.ensureDeferred
async def test_standbys_are_seen_by_who_may_see_them_and_missed_where_they_are_required(
    replicated: PostgresServer,
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    nodes = Nodes(reactor, replicated.database())
    try:
        member = nodes.start("a")
        await nodes.until(lambda: member.owns("e"))
        watch = DatabaseWatch(member.fleet.ask, required=1, reactor=reactor)
        await watch.look()
        assert watch.state is not None
        assert watch.state.standbys is None
        assert "GRANT pg_monitor" in watch.problems()[0]
        replicated.execute("GRANT pg_monitor TO stackit")
        await watch.look()
        assert watch.state.standbys == 1
        assert watch.state.size > 2**20
        assert watch.problems() == []
        replicated.wait_for_standbys()
        await watch.look()
        assert watch.state.standbys == 0
        assert watch.problems() == [
            "the database waits for 0 synchronous standbys, and fleet.replicas_required is 1: what it takes now may be "
            "lost with it"
        ]
        assert DatabaseWatch(member.fleet.ask, required=0, reactor=reactor).problems() == []
    finally:
        await nodes.close()
