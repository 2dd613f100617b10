"""The database of a fleet while nobody works on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from stackit.api.errors import JournalError
from stackit.journal.postgres.connection import Connection, Server, reason
from stackit.journal.postgres.opening import check_age
from stackit.journal.postgres.schema import APPLICATION

_AT_WORK = "SELECT name FROM nodes WHERE state <> 'dead' AND until > clock_timestamp() ORDER BY name"
_HAS_TABLES = "SELECT to_regclass('version') IS NOT NULL AND to_regclass('work') IS NOT NULL"


@contextmanager
def quiet(server: Server) -> Iterator[Connection]:
    """Give a connection in one transaction, which sees one moment and while which no node can start.

    Raises JournalError where a node is at work, where there are no tables or newer ones than this stackit knows, and
    where the database fails.
    """
    with closing(server.connect("journal copy", by_indexes=False)) as connection:
        try:
            connection.execute("SET idle_in_transaction_session_timeout = 0")
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (APPLICATION,))
                ((has_tables,),) = connection.execute(_HAS_TABLES).fetchall()
                if not has_tables:
                    raise JournalError("there is no journal in the database (fleet.postgres)")
                check_age(connection)
                names = [name for (name,) in connection.execute(_AT_WORK)]
                if names:
                    raise JournalError(f"nodes of the fleet are at work: stop {', '.join(names)} first")
                yield connection
        except psycopg.Error as error:
            raise JournalError(f"the journal in the database cannot be copied: {reason(error)}") from None
