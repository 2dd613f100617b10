"""The start: the database is checked, and its tables are made or brought up to date."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress

import msgspec
import psycopg

from stackit.api.errors import JournalError
from stackit.journal.postgres.connection import Connection, Server, reason, unreachable
from stackit.journal.postgres.pools import check_session
from stackit.journal.postgres.schema import APPLICATION, FIRST_ROWS, NAMES, OLDEST, STEPS, TABLES, VERSION
from stackit.journal.postgres.socket_cutter import answers_within

_PATIENCE = 30.0
"""Seconds that the making of the tables may take."""
_TRIES = 5
"""Times that it is begun: the server cuts off who stands still meanwhile, so that no other is kept waiting."""
_NODE_KEY_BYTES = 32

_LOCK = "SELECT pg_advisory_xact_lock(hashtext(%s))"
_LOCK_TIMEOUT = "SELECT current_setting('lock_timeout')"
_SET_LOCK_TIMEOUT = "SELECT set_config('lock_timeout', %s, true)"
_VERSION = "SELECT schema, oldest, shards FROM version"
_KEY = "SELECT node_key FROM version"
_FORBIDDEN = """
    SELECT c.relname FROM pg_class AS c, pg_class AS v
    WHERE v.oid = 'version'::regclass AND c.relnamespace = v.relnamespace AND c.relname = ANY (%s) AND CASE c.relkind
        WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE')
        ELSE NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
            AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE')) END
    ORDER BY 1
"""
_DOUBTFUL = """
    SELECT current_setting('fsync'), EXISTS (
        SELECT FROM pg_class WHERE oid = to_regclass('work') AND NOT pg_has_role(relowner, 'USAGE'))
"""
_OLD_NODES = "SELECT name FROM nodes WHERE state <> 'dead' AND until > clock_timestamp() AND schema < %s ORDER BY name"


class Release(msgspec.Struct, frozen=True):
    """The tables that a release of stackit writes: their version, the oldest it understands, and the steps there."""

    version: int = VERSION
    oldest: int = OLDEST
    steps: Mapping[int, Sequence[str]] = msgspec.field(default_factory=lambda: STEPS)


def prepare(server: Server, shards: int, release: Release = Release()) -> int:  # noqa: B008 - frozen
    """Make the tables where there are none, or bring them up to date; return in how many shards the work is divided.

    That is ``shards`` for new tables, and what it was before for others. Nodes that start at once wait for each other.
    Blocks. Raises JournalError, and changes nothing then.
    """
    return _prepare(server, shards, release, keep=True)


def examine(server: Server, shards: int, release: Release = Release()) -> list[str]:  # noqa: B008 - frozen
    """Try what ``prepare`` does, and leave the database as it is; return what is doubtful about the server.

    Blocks. Raises JournalError where ``prepare`` would.
    """
    _prepare(server, shards, release, keep=False)
    return doubts(server)


def doubts(server: Server) -> list[str]:
    """Return what is doubtful about the server, a line each. Blocks. Raises JournalError."""
    with closing(server.connect("start", by_indexes=False)) as connection:
        try:
            ((fsync, is_guest),) = connection.execute(_DOUBTFUL, prepare=False).fetchall()
        except psycopg.Error as error:
            raise unreachable(error) from None
    found = []
    if fsync == "off":
        found.append(
            "the server of the fleet has fsync = off: what was answered 202 may be lost when its machine fails"
        )
    if is_guest:
        found.append(
            "the user of the database does not own its tables: only autovacuum cleans them, and all takes longer"
        )
    return found


def _prepare(server: Server, shards: int, release: Release, *, keep: bool) -> int:
    for _ in range(_TRIES - 1):
        with suppress(_CutOff):
            return _try_to_prepare(server, shards, release, keep=keep)
    return _try_to_prepare(server, shards, release, keep=keep)


class _CutOff(JournalError):
    """The connection was cut amid the transaction: nothing of it is there."""


def _try_to_prepare(server: Server, shards: int, release: Release, *, keep: bool) -> int:
    with closing(server.connect("start", by_indexes=False)) as connection:
        _check_encoding(connection)
        try:
            check_session(connection, lambda: server.connect("start", by_indexes=False))
            with answers_within(connection, _PATIENCE), connection.transaction(force_rollback=not keep):
                _wait_for_others(connection)
                if _exists(connection, "version"):
                    return _bring_up_to_date(connection, release, change=keep)
                _make(connection, shards, release)
                return shards
        except psycopg.errors.InsufficientPrivilege as error:
            raise JournalError(
                f"the tables of the fleet cannot be made: {reason(error)}; let the user own the database, or grant it "
                "CREATE on the schema"
            ) from None
        except psycopg.errors.DuplicateTable as error:
            raise JournalError(f"the database of the fleet has tables of something else: {reason(error)}") from None
        except psycopg.Error as error:
            problem = _CutOff if connection.closed else JournalError
            raise problem(f"the tables of the fleet cannot be made or checked: {reason(error)}") from None
        except TimeoutError:
            raise JournalError(
                f"the tables of the fleet cannot be made or checked: the database has not answered for {_PATIENCE:.0f} "
                "s; if commits wait for a standby (synchronous_standby_names), see that there is one"
            ) from None


def _wait_for_others(connection: Connection) -> None:
    """Wait for another node that makes the tables: as long as it takes, and not as for a lock of a table in use."""
    ((limit,),) = connection.execute(_LOCK_TIMEOUT).fetchall()
    connection.execute(_SET_LOCK_TIMEOUT, ("0",))
    connection.execute(_LOCK, (APPLICATION,))
    connection.execute(_SET_LOCK_TIMEOUT, (limit,))


def node_key(server: Server) -> bytes:
    """Return the key by which the nodes of the fleet trust each other, a secret. Blocks. Raises JournalError."""
    with closing(server.connect("start", by_indexes=False)) as connection:
        try:
            found = connection.execute(_KEY).fetchone()
        except psycopg.Error as error:
            raise JournalError(f"the key of the fleet cannot be read: {reason(error)}") from None
    if found is None:
        raise JournalError("the database of the fleet is damaged: its table version is empty")
    return bytes(found[0])


def _check_encoding(connection: Connection) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise JournalError(
            f"the database of the fleet has the encoding {encoding}: make one with CREATE DATABASE … ENCODING 'UTF8'"
        )


def _exists(connection: Connection, table: str) -> bool:
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", (table,)).fetchone()
    return found is not None and bool(found[0])


def _make(connection: Connection, shards: int, release: Release) -> None:
    for statement in TABLES:
        connection.execute(statement)
    first, rows = FIRST_ROWS
    connection.execute(first, (release.version, release.oldest, shards, secrets.token_bytes(_NODE_KEY_BYTES)))
    connection.execute(rows, (shards,))


def check_age(connection: Connection, release: Release = Release()) -> tuple[int, int]:  # noqa: B008 - frozen
    """Return the version of the tables and the number of shards. Raises JournalError where the release is too old."""
    try:
        found = connection.execute(_VERSION).fetchone()
    except psycopg.errors.UndefinedColumn:
        raise JournalError("the database of the fleet has a table version of something else") from None
    if found is None:
        raise JournalError("the database of the fleet is damaged: its table version is empty")
    version, oldest, shards = found
    if oldest > release.version:
        raise JournalError(
            f"this stackit is too old for its fleet: the database has tables of version {version}, which need a "
            f"stackit that knows version {oldest} or newer, and this one knows {release.version}; install the version "
            "of the others"
        )
    return int(version), int(shards)


def _bring_up_to_date(connection: Connection, release: Release, *, change: bool) -> int:
    """Take the steps from the version of the tables to that of this code; return the number of shards."""
    forbidden = [name for (name,) in connection.execute(_FORBIDDEN, (list(NAMES),))]
    if forbidden:
        raise JournalError(
            f"the user of the database may not use its tables ({', '.join(forbidden)}): let it own them, or GRANT it "
            "SELECT, INSERT, UPDATE and DELETE on all tables and USAGE on all sequences of their schema"
        )
    version, shards = check_age(connection, release)
    if version < release.version:
        behind = [name for (name,) in connection.execute(_OLD_NODES, (release.oldest,))]
        if behind:
            raise JournalError(
                f"this stackit is too new for its fleet: {', '.join(behind)} would not understand its tables "
                f"(version {release.version}); bring those up to the release before this one first"
            )
    if version < release.version and change:  # the steps would lock tables that nodes work with
        for step in range(version, release.version):
            for statement in release.steps[step]:
                connection.execute(statement)
        connection.execute(
            "UPDATE version SET schema = %s, oldest = greatest(oldest, %s)",
            (release.version, release.oldest),
        )
    return shards
