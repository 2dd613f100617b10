"""Pools between a node and its database: a session is a session, or the start says why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from postgres_front import PostgresFront

from stackit.api.errors import JournalError
from stackit.journal.postgres.connection import Connection, Server
from stackit.journal.postgres.pools import check_session
from stackit.testing.postgres import PostgresServer, database_of


@pytest.fixture
def one(postgres: str) -> Iterator[Connection]:
    with closing(Server(postgres).connect("test")) as connection:
        yield connection


def test_connections_that_share_a_server_process_are_refused(one: Connection) -> None:
    with pytest.raises(JournalError, match=r"behind a pool that shares .* set pool_mode = session"):
        check_session(one, lambda: one)


def test_a_database_in_which_no_notice_arrives_is_refused(one: Connection, postgres_server: PostgresServer) -> None:
    elsewhere = Server(postgres_server.conninfo("postgres"))
    with pytest.raises(JournalError, match="does not pass on what its clients tell each other"):
        check_session(one, lambda: elsewhere.connect("test"), patience=0.2)


def test_a_pool_without_a_connection_left_is_told_of(postgres_server: PostgresServer, postgres: str) -> None:
    with PostgresFront(f"{postgres_server.directory}/.s.PGSQL.{postgres_server.port}", is_full=True) as front:
        conninfo = f"host=127.0.0.1 port={front.port} dbname={database_of(postgres)} user=stackit"
        server = Server(conninfo, first_answer=0.2)
        with pytest.raises(JournalError, match=r"it took the connection, and has not answered .* for each node"):
            server.connect("test")
