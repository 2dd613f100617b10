"""The relay: what comes through, and what waits while it is cut."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread
from waiting import until

from stackit.api.reactor import Reactor, sleep
from stackit.testing import PostgresServer
from stackit.testing.postgres import database_of
from stackit.testing.relay import Relay


@pytest.fixture
def reactor() -> Reactor:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    return reactor


@pytest_twisted.async_yield_fixture
async def relay(reactor: Reactor, postgres_server: PostgresServer) -> AsyncIterator[Relay]:
    relay = Relay(reactor, postgres_server.port)
    yield relay
    await relay.close()


def through(relay: Relay, database: str = "postgres") -> psycopg.Connection:
    conninfo = f"host={relay.host} port={relay.port} dbname={database} user=stackit connect_timeout=20"
    return psycopg.connect(conninfo, autocommit=True)


@pytest_twisted.ensureDeferred
async def test_what_is_sent_while_it_is_cut_arrives_after_it_is_healed(reactor: Reactor, relay: Relay) -> None:
    connection = await deferToThread(through, relay)
    relay.cut()
    old = deferToThread(connection.execute, "SELECT 1")
    new = deferToThread(through, relay)
    await sleep(reactor, 0.2)
    assert not old.called
    assert not new.called
    relay.heal()
    assert (await old).fetchone() == (1,)
    (await new).close()
    connection.close()


@pytest_twisted.ensureDeferred
async def test_a_reset_is_seen_at_once(relay: Relay) -> None:
    connection = await deferToThread(through, relay)
    relay.reset()
    with pytest.raises(psycopg.OperationalError):
        await deferToThread(connection.execute, "SELECT 1")
    connection.close()
    (await deferToThread(through, relay)).close()


@pytest_twisted.ensureDeferred
async def test_an_end_of_either_side_is_passed_on(relay: Relay, postgres: str, postgres_server: PostgresServer) -> None:
    database = database_of(postgres)
    connection = await deferToThread(through, relay, database)
    assert postgres_server.cut_connections(database) == 1
    with pytest.raises(psycopg.OperationalError):
        await deferToThread(connection.execute, "SELECT 1")
    connection.close()
    other = await deferToThread(through, relay, database)
    await until(lambda: len(postgres_server.clients(database)) == 1, "the end of the one that was cut off")
    other.close()
    assert await deferToThread(postgres_server.left_behind, postgres) == []


@pytest_twisted.ensureDeferred
async def test_a_connection_that_is_being_made_ends_with_the_relay(reactor: Reactor) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.create_connection(full.getsockname()):
        relay = Relay(reactor, full.getsockname()[1])
        with socket.create_connection((relay.host, relay.port)) as client:
            await until(lambda: relay._connecting, "the relay to connect, which takes for ever")
            await relay.close()
            with pytest.raises(ConnectionResetError):
                await deferToThread(client.recv, 1)
