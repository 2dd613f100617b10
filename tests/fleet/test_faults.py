"""Networks that are cut, servers that are away, standbys that are missing: no two nodes own one shard."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from threading import Event

import psycopg
import pytest
import pytest_twisted
from fleet_nodes import SHARDS, Member, Nodes, Work
from held_link import HeldLink
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from stackit.fleet.metrics import FleetMetrics
from stackit.fleet.questions import begin_round
from stackit.fleet.routes import overview
from stackit.fleet.session import Link
from stackit.journal import Shard
from stackit.journal.postgres.ownership import row_of
from stackit.testing.postgres import PostgresServer

LEASE = 2.0


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that a test stops and starts."""
    with PostgresServer() as server:
        yield server


@pytest_twisted.async_yield_fixture
async def fragile(own_server: PostgresServer) -> AsyncIterator[Nodes]:
    """Nodes on a database of this server."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    conninfo = own_server.database()
    made = Nodes(reactor, conninfo)
    yield made
    await made.close()
    assert own_server.left_behind(conninfo) == []


@pytest_twisted.async_yield_fixture
async def link(postgres_server: PostgresServer) -> AsyncIterator[HeldLink]:
    """A link to the server that all tests share."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made = HeldLink(reactor, postgres_server.port)
    yield made
    await made.close()


def by_way_of(link: HeldLink, conninfo: str) -> str:
    """A conninfo that reaches the same database through a link."""
    parts = dict(each.split("=", 1) for each in conninfo.split())
    parts |= {"host": "127.0.0.1", "port": str(link.port)}
    return " ".join(f"{key}={value}" for key, value in parts.items())


def patiently(link: HeldLink, conninfo: str) -> str:
    """The same, and a connection that is not answered while the link is cut is not given up."""
    return f"{by_way_of(link, conninfo)} connect_timeout=60"


async def beaten(nodes: Nodes) -> None:
    """Wait until every node has renewed its lease."""
    before = set(nodes.rows("SELECT incarnation, until FROM nodes"))
    await nodes.until(lambda: not before & set(nodes.rows("SELECT incarnation, until FROM nodes")))


def lost(member: Member) -> set[int]:
    return {int(shard) for _, shards in member.work.losses for shard in shards}


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_cut_off_stops_by_itself_before_others_take_its_work(nodes: Nodes, link: HeldLink) -> None:
    a = nodes.start("a", lease=LEASE)
    b = nodes.start("b", lease=LEASE, conninfo=by_way_of(link, nodes.conninfo))
    await nodes.until(lambda: nodes.is_divided(a, b))
    await b.look()
    mirrors, owned, losses = b.owns("m"), set(b.ownership.epochs), len(b.work.losses)
    link.cut()
    cut_at = nodes.reactor.seconds()
    await nodes.until(lambda: a.owns("e") == set(range(SHARDS)))
    ((lost_at, shards),) = b.work.losses[losses:]
    assert set(shards) == owned
    assert lost_at < min(at for at, working in a.work.gains if at > cut_at and owned & set(working))
    assert not b.ownership.epochs
    assert b.fleet.incarnation is None
    assert b.fleet.lease_left() == 0
    assert not a.owns("m") & mirrors
    assert any(line.startswith("this node is out of the fleet: the database has not answered") for line in b.lines)
    assert "node b is gone: its lease is over, and others take its work" in a.lines
    (problem,) = b.fleet.problems()
    assert "\n" not in problem
    assert "server closed the connection" not in problem  # it was this node that did
    seen = overview(b.fleet, None)
    assert seen.problems == [problem]
    rows = {node.name: node for node in seen.nodes}
    assert [rows[name].state for name in "ab"] == ["up", "out"]
    assert (rows["b"].handlers, rows["b"].mirrors, rows["b"].homes) == (0, 0, len(mirrors))
    assert not rows["b"].leader
    assert seen.unowned == {"handlers": 0, "mirrors": 0}  # as far as it knows
    values = readings(b)
    assert (values["stackit_fleet_nodes", "out"], values["stackit_fleet_nodes", "up"]) == (1, 0)
    assert (values["stackit_fleet_shards", "handlers"], values["stackit_fleet_leader",]) == (0, 0)
    link.heal()
    await nodes.until(lambda: nodes.is_divided(a, b))
    values = readings(b)
    assert (values["stackit_fleet_nodes", "out"], values["stackit_fleet_nodes", "up"]) == (0, 2)
    assert b.owns("m") == mirrors
    await nodes.until(lambda: b.fleet.problems() == [])


def readings(member: Member) -> dict[tuple[str, ...], float]:
    """The metrics of a node, by their name and the values of their labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in FleetMetrics(member.fleet, lambda: None).collect()
        for sample in family.samples
    }


@pytest_twisted.ensureDeferred
async def test_a_node_that_drains_and_was_cut_off_comes_back_to_drain_on(nodes: Nodes, link: HeldLink) -> None:
    a = nodes.start("a", lease=LEASE)
    b = nodes.start("b", lease=LEASE, conninfo=by_way_of(link, nodes.conninfo))
    await nodes.until(lambda: nodes.is_divided(a, b))
    await a.fleet.drain("b")
    await nodes.until(lambda: nodes.is_divided(a) and not b.ownership.epochs)
    before = b.fleet.incarnation
    link.cut()
    await nodes.until(lambda: b.fleet.incarnation is None)
    link.heal()
    await nodes.until(lambda: b.fleet.incarnation not in (None, before))
    await nodes.until(lambda: [node.state for node in a.fleet.nodes()] == ["up", "draining"])
    assert nodes.is_divided(a)
    assert sum(line.startswith("this node is draining: ") for line in b.lines) == 1
    await a.fleet.drain("b", back=True)
    await nodes.until(lambda: nodes.is_divided(a, b))


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent_or_away_is_told_of_long_before_the_lease_is_over(
    fragile: Nodes, own_server: PostgresServer
) -> None:
    a = fragile.start("a", lease=600.0)
    await fragile.until(lambda: fragile.is_divided(a) and a.fleet.problems() == [])
    own_server.pause()
    try:
        await fragile.until(a.fleet.problems)
    finally:
        own_server.resume()
    (problem,) = a.fleet.problems()
    assert re.fullmatch(r"the database of the fleet has not answered for (1 second|\d+ seconds)", problem)
    await fragile.until(lambda: not a.fleet.problems())
    own_server.stop()
    # A server that takes its time to end is silent first.
    await fragile.until(lambda: any("cannot be used" in problem for problem in a.fleet.problems()))
    (problem,) = a.fleet.problems()
    assert "\n" not in problem
    own_server.start()
    await fragile.until(lambda: not a.fleet.problems())
    assert fragile.is_divided(a)


@pytest_twisted.ensureDeferred
async def test_mirrors_of_a_node_that_stays_away_get_another_home(nodes: Nodes, link: HeldLink) -> None:
    a = nodes.start("a", lease=LEASE, rehome_after=1.0)
    b = nodes.start("b", lease=LEASE, rehome_after=1.0, conninfo=by_way_of(link, nodes.conninfo))
    await nodes.until(lambda: nodes.is_divided(a, b))
    link.cut()
    await nodes.until(lambda: nodes.is_divided(a))
    assert nodes.rows("SELECT DISTINCT home FROM shards WHERE space = 'm'") == [("a",)]
    link.heal()
    await nodes.until(lambda: nodes.is_divided(a, b))


@pytest_twisted.ensureDeferred
async def test_nobody_buries_others_before_it_was_itself_there_for_a_lease(nodes: Nodes) -> None:
    with psycopg.connect(nodes.conninfo, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO nodes (name, address, version, schema, roles, started_at, until)"
            " VALUES ('b', '', '1', 1, '{handle,mirror}', now() - interval '1 day', now() - interval '1 minute')"
        )
        connection.execute("UPDATE shards SET owner = 1, epoch = 1, home = CASE WHEN space = 'm' THEN 'b' END")
    started = nodes.reactor.seconds()
    a = nodes.start("a", lease=LEASE)
    await nodes.until(lambda: a.owns("e") == set(range(SHARDS)))
    assert a.work.gains[0][0] - started >= LEASE
    assert not a.owns("m")


@pytest_twisted.ensureDeferred
async def test_connections_that_are_cut_again_and_again_move_nothing(
    fragile: Nodes, own_server: PostgresServer
) -> None:
    a, b = await fragile.divided("a", "b")
    before = dict(a.ownership.epochs), dict(b.ownership.epochs)
    assert a.reconnections == 0
    for _ in range(5):
        own_server.cut_connections()
        await beaten(fragile)
    own_server.restart("immediate")
    await beaten(fragile)
    assert (a.ownership.epochs, b.ownership.epochs) == before
    await fragile.until(lambda: a.reconnections >= 6)  # the last is told behind the beat that came of it
    assert lost(a) | lost(b) == set()


@pytest_twisted.ensureDeferred
async def test_what_was_answered_stands_though_the_connection_is_cut_right_behind_it(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    me = a.fleet.incarnation
    assert me is not None

    def begin_and_be_cut(link: Link) -> bool:
        has_begun = begin_round(link, me, "retention", 3600.0)
        a.fleet._session.cut()
        return has_begun

    assert await a.fleet.ask(begin_and_be_cut)
    assert not await a.fleet.round("retention", 3600.0)  # nor does anybody else
    assert lost(a) == set()


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_away_for_longer_than_the_lease_moves_nothing_to_others(
    fragile: Nodes, own_server: PostgresServer
) -> None:
    a, b = fragile.start("a", lease=LEASE), fragile.start("b", lease=LEASE)
    await fragile.until(lambda: fragile.is_divided(a, b))
    before = {name: (each.owns("e"), each.owns("m")) for name, each in (("a", a), ("b", b))}
    for member in (a, b):
        member.lines.clear()
    own_server.stop("immediate")
    await fragile.until(lambda: not a.ownership.epochs and not b.ownership.epochs)
    for member in (a, b):
        (problem,) = member.fleet.problems()
        assert problem.startswith("this node is out of the fleet: ")
        assert "\n" not in problem
        assert not await member.fleet.round("retention", 0)
    own_server.start()
    await fragile.until(lambda: fragile.is_divided(a, b))
    assert {name: (each.owns("e"), each.owns("m")) for name, each in (("a", a), ("b", b))} == before
    assert not [line for member in (a, b) for line in member.lines if "is gone" in line]


@pytest_twisted.ensureDeferred
async def test_a_missing_standby_holds_up_who_enters_and_nobody_who_is_there(
    fragile: Nodes, own_server: PostgresServer
) -> None:
    (a,) = await fragile.divided("a")
    own_server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    own_server.execute("SELECT pg_reload_conf()")
    await fragile.until(lambda: own_server.execute("SHOW synchronous_standby_names") == [("nobody",)])
    try:
        b = fragile.start("b", lease=LEASE)
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        await fragile.until(lambda: own_server.execute(waiting))
        # Whoever cancels the wait makes it a success with a warning, by the word of the server.
        own_server.execute(f"SELECT pg_cancel_backend(pid) FROM ({waiting}) AS w")  # noqa: S608
        await fragile.until(lambda: any("no standby has confirmed it" in problem for problem in b.fleet.problems()))
        await fragile.sleep(LEASE)
        assert b.fleet.incarnation is None
        assert lost(a) == set()
        assert fragile.is_divided(a)
    finally:
        own_server.execute("ALTER SYSTEM RESET synchronous_standby_names")
        own_server.execute("SELECT pg_reload_conf()")
    await fragile.until(lambda: fragile.is_divided(a, b))


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_though_the_server_is_silent(fragile: Nodes, own_server: PostgresServer) -> None:
    (a,) = await fragile.divided("a", lease=LEASE)
    own_server.pause()
    try:
        await a.stop()
    finally:
        own_server.resume()
    assert not a.ownership.epochs
    assert lost(a)


@pytest_twisted.ensureDeferred
async def test_a_node_starts_without_a_server_and_enters_as_soon_as_there_is_one(
    fragile: Nodes, own_server: PostgresServer
) -> None:
    own_server.stop()
    a = fragile.start("a")
    await fragile.until(lambda: "cannot be used" in "".join(a.fleet.problems()))
    await a.fleet.leave()  # there is nothing to wait for
    own_server.start()
    await fragile.divided("b")
    assert not a.ownership.epochs


@pytest_twisted.ensureDeferred
async def test_two_that_enter_with_one_name_at_once_do_not_both_stay(nodes: Nodes) -> None:
    twins = [nodes.start("a", lease=LEASE) for _ in range(2)]

    def one_has_given_way() -> bool:
        return any(
            nodes.is_divided(one) and not other.ownership.epochs and "has the name a now" in str(other.fleet.problems())
            for one, other in (twins, twins[::-1])
        )

    await nodes.until(one_has_given_way)


@pytest_twisted.ensureDeferred
async def test_after_a_fault_of_stackit_s_own_a_node_enters_anew(nodes: Nodes, logged_failures: list[LogEvent]) -> None:
    class Broken(Work):
        is_broken = True

        def gained(self) -> None:
            if self.is_broken:
                raise ZeroDivisionError

    a = nodes.start("a", lease=LEASE)
    b = nodes.start("b", lease=LEASE)
    await nodes.until(lambda: nodes.is_divided(a, b))
    broken = Broken(nodes.reactor, b.ownership)
    b.fleet.listen(broken)
    await a.fleet.drain("a")
    out = "this node is out of the fleet by a fault of stackit's own, which is in its log; it enters anew"
    await nodes.until(lambda: b.fleet.problems() == [out])
    assert not b.ownership.epochs
    assert b.fleet.incarnation is None
    broken.is_broken = False
    await a.fleet.drain("a", back=True)
    await nodes.until(lambda: nodes.is_divided(a, b) and b.fleet.problems() == [])
    assert all(failure["log_failure"].check(ZeroDivisionError) for failure in logged_failures)
    logged_failures.clear()


@pytest_twisted.ensureDeferred
async def test_what_drains_is_lost_at_once_when_the_lease_is(nodes: Nodes, link: HeldLink) -> None:
    a = nodes.start("a", lease=LEASE, conninfo=by_way_of(link, nodes.conninfo))
    await nodes.until(lambda: nodes.is_divided(a))
    a.work.busy = {shard: Deferred() for shard in a.ownership.epochs}
    b = nodes.start("b", lease=LEASE)
    await nodes.until(lambda: {row_of(shard)[0] for shard in a.ownership.leaving} == {"e", "m"})
    gains = len(a.work.gains)
    link.cut()
    await nodes.until(lambda: not a.ownership.epochs)
    assert not a.ownership.leaving
    assert len(a.work.gains) == gains
    await nodes.until(lambda: b.owns("e") == set(range(SHARDS)))
    a.work.busy.clear()
    link.heal()
    await nodes.until(lambda: nodes.is_divided(a, b))


def may_begin(member: Member) -> list[Shard]:
    """The shards of which work may begin at a node at this moment."""
    return [shard for shard in member.ownership.epochs if member.ownership.owns(shard)]


@pytest_twisted.ensureDeferred
async def test_a_node_whose_machine_was_suspended_for_its_lease_begins_nothing_before_it_has_entered_anew(
    nodes: Nodes,
) -> None:
    a, b = await nodes.divided("a", "b")
    before, owned = b.fleet.incarnation, set(b.ownership.epochs)
    assert set(may_begin(b)) == owned
    b.slept = 60.0
    assert may_begin(b) == []
    assert b.fleet.lease_left() == 0.0
    begun: list[Shard] = []
    b.fleet.when_changed(lambda: begun.extend(may_begin(b) if b.fleet.incarnation in (None, before) else []))
    await nodes.until(lambda: lost(b) == owned and b.fleet.incarnation not in (None, before))
    await nodes.until(lambda: nodes.is_divided(a, b))
    assert begun == []
    assert sum("the database has not answered for most of the lease" in line for line in b.lines) == 1


@pytest_twisted.ensureDeferred
async def test_a_lease_that_was_over_is_not_begun_again_by_an_answer_that_comes_before_its_timer(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a")
    before, owned = a.fleet.incarnation, set(a.ownership.epochs)
    a.slept = 60.0
    a.fleet.look_now()
    answered = Event()
    asked = a.fleet.ask(lambda _: answered.set())
    assert answered.wait(60.0)  # it holds the reactor up: the answer to the beat is there before any timer
    await asked
    await nodes.until(lambda: a.fleet.incarnation not in (None, before) and nodes.is_divided(a))
    assert lost(a) == owned


@pytest_twisted.ensureDeferred
async def test_what_holds_a_node_up_is_looked_for_by_the_clock_of_its_lease(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a", lease=LEASE)
    before = a.fleet.incarnation
    a.slept = 3600.0
    await nodes.until(lambda: a.fleet.incarnation not in (None, before) and nodes.is_divided(a))
    looked_for = Event()
    a.fleet.watch_over(looked_for.set)
    assert looked_for.wait(60.0)  # it holds the reactor up


@pytest_twisted.ensureDeferred
async def test_an_entry_that_failed_half_way_is_not_another_node_of_the_name(nodes: Nodes) -> None:
    (a,) = await nodes.divided("a", lease=LEASE)
    with psycopg.connect(nodes.conninfo) as operator:  # somebody's VACUUM FULL, say
        operator.execute("LOCK TABLE shards IN ACCESS EXCLUSIVE MODE")
        await nodes.until(lambda: a.fleet.incarnation is None)
        before = len(nodes.rows("SELECT incarnation FROM nodes"))
        await nodes.until(
            lambda: len(nodes.rows("SELECT incarnation FROM nodes")) > before + 1
        )  # it tries to enter, and again
        told = "due to lock timeout; pg_locks and pg_stat_activity show who has it"
        await nodes.until(lambda: told in "".join(a.fleet.problems()))
        operator.rollback()
    await nodes.until(lambda: nodes.is_divided(a))
    assert not [line for line in a.lines if "has the name" in line]


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_let_in_too_late_is_not_in_and_out_before_it_is_in(nodes: Nodes, link: HeldLink) -> None:
    a = nodes.start("a", lease=LEASE, conninfo=patiently(link, nodes.conninfo))
    await nodes.until(lambda: nodes.is_divided(a))
    (before,) = nodes.rows("SELECT max(incarnation) FROM nodes")
    link.cut()
    await nodes.until(lambda: a.fleet.incarnation is None)
    asked = nodes.reactor.seconds()
    await nodes.until(lambda: nodes.reactor.seconds() > asked + 0.9 * LEASE)
    changes: list[int | None] = []
    a.fleet.when_changed(lambda: changes.append(a.fleet.incarnation))
    link.heal()
    await nodes.until(lambda: nodes.is_divided(a))
    assert None not in changes
    assert [each for each in a.lines if "is out of the fleet" in each] == [
        "this node is out of the fleet: the database has not answered for most of the lease; others do its work if "
        "they reach it"
    ]
    (after,) = nodes.rows("SELECT max(incarnation) FROM nodes")
    assert after > before


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_let_in_too_late_and_is_to_enter_no_more_is_given_nothing(
    nodes: Nodes, link: HeldLink
) -> None:
    a = nodes.start("a", lease=LEASE, conninfo=patiently(link, nodes.conninfo))
    await nodes.until(lambda: nodes.is_divided(a))
    ((before,),) = nodes.rows("SELECT max(incarnation) FROM nodes")
    link.cut()
    await nodes.until(lambda: a.fleet.incarnation is None)
    asked = nodes.reactor.seconds()
    await nodes.until(lambda: nodes.reactor.seconds() > asked + 0.9 * LEASE)
    await a.fleet.leave()
    link.heal()
    for _ in range(2):  # it enters before the first is answered, and is out again before the second
        await a.fleet.ask(lambda _: None)
    assert nodes.rows("SELECT * FROM nodes WHERE incarnation > %s AND state <> 'dead'", before) == []
    assert a.fleet.problems() == ["this node is out of the fleet: the database took as long as its lease to let it in"]
