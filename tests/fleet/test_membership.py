"""Nodes that join, leave and die: who owns what, and what those who work are told."""

from __future__ import annotations

import pytest
import pytest_twisted
from fleet_nodes import SHARDS, WIDGET, Member, Nodes, ended
from many_files import many_files
from twisted.internet.defer import Deferred, gatherResults

from stackit.api.errors import StackitError
from stackit.fleet.placement import place
from stackit.journal.postgres.ownership import shard_at


@pytest_twisted.ensureDeferred
async def test_a_node_alone_owns_everything_and_leads(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a", lease=10.0)
    assert a.work.gains
    await nodes.until(lambda: a.fleet.problems() == [])
    assert a.fleet.is_here(WIDGET)
    home = a.fleet.home(WIDGET)
    assert home is not None
    assert (home.name, home.state, home.address, home.version) == ("a", "up", "https://a.example:8081", "1")
    assert a.fleet.leader() == home
    assert nodes.owners() == {("e", "a"): SHARDS, ("m", "a"): SHARDS, ("l", "a"): 1}
    assert 0 < a.fleet.lease_left() <= 9


@pytest_twisted.ensureDeferred
async def test_a_node_enters_also_where_a_thousand_files_are_open(nodes: Nodes) -> None:
    with many_files():
        (a,) = await nodes.divided("a", lease=10.0)
        await a.fleet.stopService()


@pytest_twisted.ensureDeferred
async def test_nodes_that_join_get_their_part_and_the_leader_stays(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    b, c = nodes.start("b"), nodes.start("c")
    await nodes.until(lambda: nodes.is_divided(a, b, c))
    assert a.fleet.leads()
    placed = place(["a", "b", "c"], SHARDS)
    for member in (a, b, c):
        await nodes.until(lambda member=member: _who_has(member) == placed)  # type: ignore[misc]
        assert [node.name for node in member.fleet.nodes()] == ["a", "b", "c"]
        assert member.fleet.leader() == a.fleet.leader()


def _who_has(member: Member) -> dict[int, str | None]:
    """The home of each shard, as a node sees it."""
    view = member.fleet.view
    owners = {number: view.owner(view.shards[shard_at("m", number)]) for number in range(SHARDS)}
    return {number: None if owner is None else owner.name for number, owner in owners.items()}


@pytest_twisted.ensureDeferred
async def test_what_runs_in_a_shard_ends_before_another_node_owns_it(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    running: dict[int, Deferred[None]] = {number: Deferred() for number in range(SHARDS)}
    a.work.busy = {shard_at("e", number): deferred for number, deferred in running.items()}
    b = nodes.start("b")
    await nodes.until(lambda: b.owns("m") and a.owns("m") | b.owns("m") == set(range(SHARDS)))
    leaving = set(range(SHARDS)) - a.owns("e")
    assert leaving
    assert not b.owns("e")
    first, *others = leaving
    running[first].callback(None)
    await nodes.until(lambda: b.owns("e") == {first})
    assert nodes.owners()["e", "a"] == SHARDS - 1
    for number in others:
        running[number].callback(None)
    await nodes.until(lambda: nodes.is_divided(a, b))
    assert not a.work.losses  # nothing of it was cancelled


@pytest_twisted.ensureDeferred
async def test_a_node_keeps_what_runs_when_the_one_that_should_get_it_goes_again(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    a.work.busy = {shard_at("e", number): Deferred() for number in range(SHARDS)}
    b = nodes.start("b")
    await nodes.until(lambda: b.owns("m"))
    gains = len(a.work.gains)
    await b.stop()
    await nodes.until(lambda: a.owns("e") == set(range(SHARDS)))
    assert len(a.work.gains) > gains  # what came to these shards meanwhile is read
    assert not [lost for _, lost in a.work.losses if lost]
    assert not a.ownership.leaving


@pytest_twisted.ensureDeferred
async def test_a_node_that_stops_gives_its_work_away_and_stays_the_home_of_its_mirrors(nodes: Nodes) -> None:
    a, b = await nodes.divided("a", "b")
    mirrors = b.owns("m")
    await b.fleet.leave()
    assert not b.ownership.epochs
    assert not b.work.losses
    assert nodes.owners()["e", "a"] == SHARDS
    await nodes.until(lambda: a.owns("e") == set(range(SHARDS)) and a.fleet.leads())
    assert nodes.owners()["m", None] == len(mirrors)
    await b.fleet.stopService()
    again = nodes.start("b")
    await nodes.until(lambda: nodes.is_divided(a, again))
    assert again.owns("m") == mirrors
    assert b.fleet.incarnation != again.fleet.incarnation


@pytest_twisted.ensureDeferred
async def test_a_stop_that_waits_no_longer_loses_what_still_runs(nodes: Nodes) -> None:
    a, b = await nodes.divided("a", "b")
    busy = min(b.owns("e"))
    b.work.busy = {shard_at("e", busy): Deferred()}
    leaving = Deferred.fromCoroutine(b.fleet.leave())
    await nodes.until(lambda: a.owns("e") == set(range(SHARDS)) - {busy})
    assert not leaving.called
    await ended(leaving)
    await b.fleet.stopService()
    assert [set(lost) for _, lost in b.work.losses] == [{shard_at("e", busy)}]
    await nodes.until(lambda: a.owns("e") == set(range(SHARDS)))


@pytest_twisted.ensureDeferred
async def test_the_last_node_leaves_everything_for_the_next(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    await a.stop()
    assert nodes.owners() == {("e", None): SHARDS, ("m", None): SHARDS, ("l", None): 1}
    b = nodes.start("b")
    await nodes.until(lambda: b.owns("e") == set(range(SHARDS)))
    assert not b.owns("m")
    home = b.fleet.home(WIDGET)
    assert home is not None
    assert (home.name, home.state) == ("a", "away")
    assert home.away_for > 0
    a = nodes.start("a")
    await nodes.until(lambda: nodes.is_divided(a, b))


@pytest_twisted.ensureDeferred
async def test_a_second_node_of_a_name_takes_the_place_of_the_first_which_waits_for_its_end(nodes: Nodes) -> None:
    first = nodes.start("a", lease=1.5)
    await nodes.until(lambda: nodes.is_divided(first))
    second = nodes.start("a")
    await nodes.until(lambda: nodes.is_divided(second) and not first.ownership.epochs)
    wrong = "this node is out of the fleet: https://a.example:8081 has the name a now: give one another name"
    await nodes.until(lambda: first.fleet.problems() == [wrong])
    assert first.lines.count(wrong) == 1
    await nodes.sleep(2.0)  # it tries again meanwhile
    assert first.fleet.problems() == [wrong]
    assert first.lines.count(wrong) == 1
    await second.stop()
    await nodes.until(lambda: nodes.is_divided(first))
    assert first.fleet.problems() == []


@pytest_twisted.ensureDeferred
async def test_nodes_take_the_work_that_their_roles_are_for(nodes: Nodes) -> None:
    door = nodes.start("door", roles=("receive",))
    worker = nodes.start("worker", roles=("handle",))
    disk = nodes.start("disk", roles=("mirror",))
    everything = set(range(SHARDS))
    await nodes.until(lambda: worker.owns("e") == everything and disk.owns("m") == everything)
    assert not door.owns("e") | door.owns("m") | worker.owns("m") | disk.owns("e")
    await nodes.until(lambda: door.fleet.home(WIDGET) is not None)
    home = door.fleet.home(WIDGET)
    assert home is not None
    assert (home.name, home.roles) == ("disk", ("mirror",))


@pytest_twisted.ensureDeferred
async def test_a_draining_node_gives_everything_away_and_takes_its_part_again_when_told(nodes: Nodes) -> None:
    a, b = await nodes.divided("a", "b")
    await a.fleet.drain("b")
    await nodes.until(lambda: nodes.is_divided(a) and not b.ownership.epochs)
    assert [node.state for node in a.fleet.nodes()] == ["up", "draining"]
    assert nodes.rows("SELECT DISTINCT home FROM shards WHERE space = 'm'") == [("a",)]
    await b.fleet.drain("b", back=True)
    await nodes.until(lambda: nodes.is_divided(a, b))


@pytest_twisted.ensureDeferred
async def test_a_node_that_stops_while_it_drains_is_a_member_no_more_unless_mirrors_stay_with_it(nodes: Nodes) -> None:
    a, b = await nodes.divided("a", "b")
    await b.stop()
    await nodes.until(lambda: [node.state for node in a.fleet.nodes()] == ["up", "away"])
    b = nodes.start("b")
    await nodes.until(lambda: nodes.is_divided(a, b))
    await a.fleet.drain("b")
    await nodes.until(lambda: nodes.is_divided(a) and not b.ownership.epochs)
    await b.stop()
    await nodes.until(lambda: [node.name for node in a.fleet.nodes()] == ["a"])
    b = nodes.start("b")
    await nodes.until(lambda: nodes.is_divided(a, b))
    await a.fleet.drain("b")
    await a.fleet.drain("a")
    await nodes.until(lambda: [node.state for node in b.fleet.nodes()] == ["draining", "draining"])
    await a.stop()
    await b.look()
    assert [(node.name, node.state) for node in b.fleet.nodes()] == [("a", "away"), ("b", "draining")]


@pytest_twisted.ensureDeferred
async def test_the_only_node_keeps_its_work_though_it_drains(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    await a.fleet.drain("a")
    await nodes.until(lambda: a.fleet.nodes()[0].state == "draining")
    assert nodes.is_divided(a)
    with pytest.raises(StackitError, match="no node c is at work: at work are a"):
        await a.fleet.drain("c")


@pytest_twisted.ensureDeferred
async def test_a_round_begins_once_in_its_interval_in_the_whole_fleet(nodes: Nodes) -> None:
    members = [nodes.start(name) for name in "abc"]
    assert await members[0].fleet.round("retention", 0.0) is False  # it is in no fleet yet
    await nodes.until(lambda: nodes.is_divided(*members))
    asked = [Deferred.fromCoroutine(each.fleet.round("retention", 3600)) for each in members * 4]
    assert sorted(await gatherResults(asked)) == [False] * 11 + [True]
    assert await members[1].fleet.round("backstop", 3600)
    assert await members[1].fleet.round("retention", 0.0)


@pytest_twisted.ensureDeferred
async def test_a_fault_of_a_plugin_does_not_end_the_membership(nodes: Nodes) -> None:
    a = nodes.start("a")

    def fail() -> None:
        raise ValueError("the plugin's own")

    a.fleet.when_changed(fail)
    await nodes.until(lambda: nodes.is_divided(a))
    b = nodes.start("b")
    await nodes.until(lambda: nodes.is_divided(a, b))


@pytest_twisted.ensureDeferred
async def test_nobody_is_told_of_what_did_not_change(nodes: Nodes) -> None:
    a, _ = await nodes.divided("a", "b")
    await a.look()
    changes, gains = a.changes, len(a.work.gains)
    beats = nodes.rows("SELECT until FROM nodes WHERE name = 'a'")
    await nodes.until(lambda: nodes.rows("SELECT until FROM nodes WHERE name = 'a'") != beats)
    await a.look()
    assert (a.changes, len(a.work.gains)) == (changes, gains)


@pytest_twisted.ensureDeferred
async def test_dead_incarnations_are_forgotten_where_nobody_needs_them(nodes: Nodes) -> None:
    nodes.rows(
        "INSERT INTO nodes (name, address, version, schema, roles, state, started_at, until)"
        " SELECT 'old' || n %% 3, '', '1', 1, '{mirror}', 'dead', now() - interval '2 years', now() - interval '1 year'"
        " FROM generate_series(1, 9) AS n"
    )
    nodes.rows("UPDATE shards SET home = 'old1' WHERE space = 'm' AND shard = 1")
    a = nodes.start("a", rehome_after=1e9)
    await nodes.until(lambda: len(a.owns("m")) == SHARDS - 1)
    assert [node.name for node in a.fleet.nodes()] == ["a", "old1"]
    assert nodes.rows("SELECT name, count(*) FROM nodes WHERE state = 'dead' GROUP BY name ORDER BY name") == [
        ("old0", 1),
        ("old1", 1),
        ("old2", 1),
    ]
