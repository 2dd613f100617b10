"""A database that crashes, goes away, cuts its clients off, or is taken over by its standby: no 202 is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from fleet_load import Load, StartFleet
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from stackit.api.reactor import sleep
from stackit.testing import PostgresServer, RunningFleet
from stackit.testing.postgres import database_of

REPOS = [f"octo/widget-{number}" for number in range(12)]


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


async def sent_some(fleet: RunningFleet, load: Load, more: int) -> None:
    wanted = len(load.sent) + more

    async def sent() -> bool:
        return len(load.sent) >= wanted

    await fleet.until(sent, f"{more} more deliveries to be taken", within=60)


@pytest_twisted.ensureDeferred
async def test_crashes_cuts_and_an_outage_of_the_database_lose_nothing(
    server: PostgresServer, start_fleet: StartFleet, load: Load
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    fleet = await start_fleet(postgres=server.database())
    sending = Deferred.fromCoroutine(load.send(fleet, REPOS, 10_000, pause=0.1, takes=0.02))
    await sent_some(fleet, load, 60)
    await deferToThread(server.restart, "immediate")
    for _ in range(10):
        await sent_some(fleet, load, 20)
        assert await deferToThread(server.cut_connections) > 0
    await sent_some(fleet, load, 20)
    # Longer than the lease: each lets go of its work, and nobody buries the others.
    await deferToThread(server.stop, "immediate")
    await sleep(reactor, 8.0)
    await deferToThread(server.start)
    await sent_some(fleet, load, 20)
    load.is_enough = True
    await sending
    await load.all_done(fleet)
    load.check()
    assert len(await fleet.query("SELECT FROM events")) == len(load.sent)
    await fleet.settled()


@pytest_twisted.ensureDeferred
async def test_what_was_taken_is_on_the_standby_that_takes_over(
    server: PostgresServer, start_fleet: StartFleet, load: Load
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    primary = server.database()
    standby = server.standby("s1")
    server.wait_for_standbys("s1")
    both = (
        f"host={server.directory},{standby.directory} port={server.port},{standby.port} "
        f"dbname={database_of(primary)} user=stackit target_session_attrs=read-write"
    )
    fleet = await start_fleet(postgres=both)
    await load.send(fleet, REPOS[:4], 3)

    # No standby, no 202: the server waits for ever, and the receiver says so in the time that GitHub has.
    await deferToThread(standby.stop, "immediate")
    before = len(load.sent)
    sending = Deferred.fromCoroutine(load.send(fleet, REPOS, 40, takes=0.02))
    await sleep(reactor, 1.0)
    assert len(load.sent) == before
    await deferToThread(standby.start)
    await sent_some(fleet, load, 100)

    recorded, at = await load.recorded(fleet)
    await deferToThread(server.kill)
    await sleep(reactor, 0.5)
    await deferToThread(standby.promote)
    await sending
    await load.all_done(fleet)
    load.check()
    taken = {guid for (guid,) in await fleet.query("SELECT delivery FROM events")}
    assert {sent.guid for sent in load.sent} <= taken
    assert recorded
    assert load.begun_again(recorded, at) == []


@pytest_twisted.ensureDeferred
async def test_no_handler_begins_while_the_database_takes_no_writes(
    server: PostgresServer, start_fleet: StartFleet, load: Load
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    def set_read_only(value: str) -> None:
        server.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        server.execute("SELECT pg_reload_conf()")

    def count(what: str) -> int:
        return sum(note.what == what for note in load.notes())

    # The lease is long: what is in memory is this node's all the time.
    fleet = await start_fleet(postgres=server.database(), nodes=("a",), fleet={"lease": "1m"})
    load.held.touch()  # however long it takes to send all of it
    await load.send(fleet, REPOS, 5, takes=1.0)
    await deferToThread(set_read_only, "on")
    load.held.unlink()

    async def is_told() -> bool:
        problems: list[str] = (await fleet["a"].admin("GET", "{prefix}/fleet")).json()["problems"]
        return any(each.startswith("the journal cannot be written to the database: ") for each in problems)

    await fleet.until(is_told, "people to be told")

    async def is_red() -> bool:
        return (await fleet["a"].ask("GET", f"{fleet['a'].url}/healthz")).status == 503

    await fleet.until(is_red, "load balancers to be told")

    async def begins_none() -> bool:
        begun = count("start")
        await sleep(reactor, 2.0)
        return count("start") == begun == count("end")

    await fleet.until(begins_none, "no handler to begin any more")
    assert count("start") < len(load.sent)
    await deferToThread(set_read_only, "off")
    await load.all_done(fleet)
    load.check()
    assert load.twice() == set()
