"""The start: tables are made once, brought up to date beside older nodes, and what cannot be used is one clear line."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_front import PostgresFront

from stackit.api.errors import JournalError
from stackit.journal.postgres import connection as connections
from stackit.journal.postgres import opening
from stackit.journal.postgres.commit import Bundles, Commit, Snapshot
from stackit.journal.postgres.connection import Connection, Server, reason
from stackit.journal.postgres.opening import Release, examine, prepare
from stackit.journal.postgres.schema import APPLICATION, NAMES
from stackit.journal.postgres.subscribers import Subscribers
from stackit.journal.postgres.upkeep import vacuum
from stackit.testing.postgres import PostgresServer, database_of


def in_database(conninfo: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement in a database, and return its rows."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode(), values or None)
        return cursor.fetchall() if cursor.description else []


def refused(call: Callable[[], object]) -> str:
    """Return the line with which something is refused."""
    with pytest.raises(JournalError) as caught:
        call()
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_nodes_that_start_at_once_make_the_tables_once(postgres: str) -> None:
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda shards=shards: found.append(prepare(Server(postgres), shards)))
        for shards in (16, 32, 64)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((version, shards, key),) = in_database(postgres, "SELECT schema, shards, length(node_key) FROM version")
    assert (version, key) == (1, 32)
    assert found == [shards] * 3
    # Whoever comes later with another number has that of the database.
    assert prepare(Server(postgres), 1024) == shards
    spaces = in_database(postgres, "SELECT space, count(*) FROM shards GROUP BY 1 ORDER BY 1")
    assert spaces == [("e", shards), ("l", 1), ("m", shards)]


def test_a_node_waits_for_another_that_makes_the_tables_however_long_it_takes(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_LOCK_TIMEOUT", 0.05)
    limits: list[str] = []
    make = opening._make

    def made(connection: Connection, *rest: Any) -> None:
        limits.extend(limit for (limit,) in connection.execute("SHOW lock_timeout"))
        make(connection, *rest)

    monkeypatch.setattr(opening, "_make", made)
    found: list[int] = []
    with psycopg.connect(postgres) as other:
        other.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (APPLICATION,))
        thread = threading.Thread(target=lambda: found.append(prepare(Server(postgres), 16)))
        thread.start()
        waiting = "SELECT clock_timestamp() - waitstart > interval '0.5 s' FROM pg_locks WHERE NOT granted"
        while thread.is_alive() and in_database(postgres, waiting) != [(True,)]:
            time.sleep(0.01)
    thread.join()
    assert (found, limits) == ([16], ["50ms"])


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_process_that_stood_still_amid_the_tables_or_was_cut_off_begins_anew(
    postgres: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, is_cut: bool
) -> None:
    make = opening._make
    begun: list[Connection] = []

    def slow(connection: Connection, *rest: Any) -> None:
        begun.append(connection)
        if len(begun) == 1 and is_cut:
            postgres_server.cut_connections(database_of(postgres))
        ours = "SELECT 1 FROM pg_stat_activity WHERE pid = %s"
        while len(begun) == 1 and in_database(postgres, ours, connection.info.backend_pid):
            time.sleep(0.01)
        make(connection, *rest)

    monkeypatch.setattr(opening, "_make", slow)
    assert prepare(Server(postgres, lease=60.0 if is_cut else 0.5), 16) == 16
    assert len(begun) == 2
    assert in_database(postgres, "SELECT count(*) FROM version") == [(1,)]


def test_a_newer_release_adds_to_the_tables_while_older_nodes_use_them(postgres: str) -> None:
    prepare(Server(postgres), 16)
    next_one = Release(version=2, oldest=1, steps={1: ("ALTER TABLE events ADD COLUMN colour text",)})
    for _ in range(2):  # the second start finds it done
        assert prepare(Server(postgres), 16, next_one) == 16
    assert in_database(postgres, "SELECT schema, oldest FROM version") == [(2, 1)]
    assert in_database(postgres, "SELECT colour FROM events") == []
    assert prepare(Server(postgres), 16) == 16  # the older one goes on


def test_a_release_that_takes_something_away_waits_for_the_older_nodes_and_refuses_them_then(postgres: str) -> None:
    prepare(Server(postgres), 16)
    register = (
        "INSERT INTO nodes (name, address, version, schema, roles, until)"
        " VALUES ('b', '', '1.0', 1, '{}', clock_timestamp() + interval '1 hour')"
    )
    in_database(postgres, register)
    later = Release(version=2, oldest=2, steps={1: ("DROP INDEX events_by_repo",)})
    line = refused(lambda: prepare(Server(postgres), 16, later))
    assert line.startswith("this stackit is too new for its fleet: b would not understand its tables (version 2)")
    assert in_database(postgres, "SELECT schema, oldest FROM version") == [(1, 1)]
    in_database(postgres, "UPDATE nodes SET state = 'dead'")
    assert prepare(Server(postgres), 16, later) == 16
    line = refused(lambda: prepare(Server(postgres), 16))
    assert line.startswith("this stackit is too old for its fleet: the database has tables of version 2, which need")


def test_a_step_that_fails_changes_nothing(postgres: str) -> None:
    prepare(Server(postgres), 16)
    broken = Release(version=2, oldest=1, steps={1: ("CREATE TABLE more (id int)", "ALTER TABLE nowhere ADD x int")})
    assert "nowhere" in refused(lambda: prepare(Server(postgres), 16, broken))
    assert in_database(postgres, "SELECT schema, to_regclass('more') FROM version") == [(1, None)]


def test_a_database_of_something_else_is_left_as_it_is(postgres: str) -> None:
    in_database(postgres, "CREATE TABLE events (mine int)")
    assert "tables of something else" in refused(lambda: prepare(Server(postgres), 16))
    assert in_database(postgres, "SELECT to_regclass('work'), to_regclass('version')") == [(None, None)]
    in_database(postgres, "CREATE TABLE version (number int)")
    assert "a table version of something else" in refused(lambda: prepare(Server(postgres), 16))


def test_a_user_who_owns_no_table_needs_all_rights_on_each(postgres: str, postgres_server: PostgresServer) -> None:
    prepare(Server(postgres), 16)
    database = database_of(postgres)
    other = postgres_server.conninfo(database, "guest")
    postgres_server.execute("CREATE ROLE guest LOGIN")
    try:
        in_database(postgres, "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO guest")
        line = refused(lambda: prepare(Server(other), 16))
        assert line.startswith(
            "the user of the database may not use its tables (bundle_ids, event_ids): let it own them"
        )
        in_database(postgres, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO guest")
        assert prepare(Server(other), 16) == 16
        assert "does not own its tables" in examine(Server(other), 16)[1]
        with closing(Server(other).connect("test")) as connection:
            told: list[object] = []
            connection.add_notice_handler(told.append)
            vacuum(Commit(connection, Snapshot(1, {}, {}, 16), Subscribers(), Bundles()))
        assert told == []  # the server would warn in its log, too
        in_database(postgres, "REVOKE DELETE ON work FROM guest")
        assert "(work)" in refused(lambda: prepare(Server(other), 16))
    finally:
        postgres_server.execute("DROP OWNED BY guest", database=database)
        postgres_server.execute("DROP ROLE guest")


def test_the_tables_are_in_the_first_schema_of_the_users_path(postgres: str) -> None:
    in_database(postgres, "CREATE SCHEMA elsewhere")
    in_database(postgres, f"ALTER ROLE stackit IN DATABASE {database_of(postgres)} SET search_path = elsewhere")
    for _ in range(2):
        assert prepare(Server(postgres), 16) == 16
    assert in_database(postgres, "SELECT schemaname FROM pg_tables WHERE tablename IN ('version', 'work')") == [
        ("elsewhere",),
        ("elsewhere",),
    ]


def test_all_tables_and_sequences_have_a_name_that_is_checked_and_no_index_goes_by_a_language(postgres: str) -> None:
    prepare(Server(postgres), 16)
    made = in_database(
        postgres,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (relkind = 'r' OR relkind = 'S')"
        " AND relname <> 'nodes_incarnation_seq'",  # an identity column needs no right of its own
    )
    assert {name for (name,) in made} == set(NAMES)
    by_language = in_database(
        postgres,
        "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid::regclass::text = ANY (%s)"
        " AND 'default'::regcollation = ANY (indcollation)",
        list(NAMES),
    )
    assert by_language == []


def test_a_check_says_what_a_start_would_and_makes_nothing(postgres: str, postgres_server: PostgresServer) -> None:
    (doubt,) = examine(Server(postgres), 16)  # of the server of these tests
    assert "fsync = off" in doubt
    assert in_database(postgres, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    prepare(Server(postgres), 16)
    later = Release(version=2, oldest=1, steps={1: ("DROP TABLE events",)})
    assert examine(Server(postgres), 16, later) == [doubt]
    assert in_database(postgres, "SELECT schema, to_regclass('events')::text FROM version") == [(1, "events")]
    in_database(postgres, "UPDATE version SET oldest = 2")
    assert "this stackit is too old for its fleet" in refused(lambda: examine(Server(postgres), 16))


def test_a_server_that_is_too_old_is_refused(postgres: str, postgres_server: PostgresServer) -> None:
    with PostgresFront(f"{postgres_server.directory}/.s.PGSQL.{postgres_server.port}", version=b"13") as front:
        line = refused(lambda: Server(f"{postgres} host=127.0.0.1 port={front.port}").connect("test"))
    assert line == "the database of the fleet is PostgreSQL 13: stackit needs 14 or newer"


def test_a_user_who_may_make_no_tables_is_told_what_to_grant(postgres: str, postgres_server: PostgresServer) -> None:
    postgres_server.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC, stackit", database=database_of(postgres))
    postgres_server.execute("ALTER SCHEMA public OWNER TO postgres", database=database_of(postgres))
    line = refused(lambda: prepare(Server(postgres), 16))
    assert "permission denied for schema public" in line
    assert "grant it CREATE on the schema" in line


def test_a_database_of_another_encoding_is_refused(postgres_server: PostgresServer) -> None:
    postgres_server.execute("CREATE DATABASE latin OWNER stackit ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    line = refused(lambda: prepare(Server(postgres_server.conninfo("latin")), 16))
    postgres_server.drop(postgres_server.conninfo("latin"))
    assert "has the encoding LATIN1: make one with CREATE DATABASE" in line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("dbname=nowhere", 'database "nowhere" does not exist'),
        ("user=nobody", 'role "nobody" does not exist'),
        ("port=1", "failed: No such file or directory; no server listens there: start it, or mend host and port"),
        ("host=127.0.0.1 port=1", 'server at "127.0.0.1", port 1 failed: Connection refused; no server listens there'),
        ("host=nowhere.invalid", "; this machine knows no such name: mend it in fleet.postgres"),
        ("connect_timeout=never", "connect_timeout"),
        ("port=1,2", "could not match 2 port numbers to 1 hosts"),
    ],
)
def test_a_database_that_cannot_be_reached_is_named_with_the_reason(postgres: str, change: str, expected: str) -> None:
    line = refused(lambda: prepare(Server(f"{postgres} {change}"), 16))
    assert line.startswith("the database of the fleet (fleet.postgres) cannot be used: ")
    assert expected in line


@pytest.mark.parametrize("conninfo", ["host=db..x", f"host={'x' * 70}.invalid", "passfile=/\udcff", "dbname='a"])
def test_what_cannot_be_understood_is_one_line_without_a_part_of_it(conninfo: str) -> None:
    line = refused(lambda: Server(conninfo).connect("test"))
    assert line.startswith("fleet.postgres is not understood: write it as for psql")


def test_a_password_is_in_no_error(postgres_server: PostgresServer) -> None:
    guarded = postgres_server.database(password="opensesame")
    wrong = guarded.replace("password=opensesame", "password=hunter2hunter2")
    for conninfo in (wrong, f"{wrong} nonsense", f"{wrong} sslmode=nonsense", "hunter2hunter2"):
        assert "hunter2" not in refused(partial(prepare, Server(conninfo), 16))
    assert prepare(Server(guarded), 16) == 16
    postgres_server.drop(guarded)


def test_a_limit_of_connections_is_named_with_the_way_out(postgres: str) -> None:
    in_database(postgres, f"ALTER DATABASE {database_of(postgres)} CONNECTION LIMIT 0")
    line = refused(lambda: prepare(Server(postgres), 16))
    assert "too many connections for database" in line
    assert line.endswith("raise its CONNECTION LIMIT: each node needs six")


def test_a_password_file_that_is_of_no_use_is_named_with_what_is_wrong(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    guarded = postgres_server.database(password="open sesame: \\%@/")
    file = tmp_path / "pgpass"
    server = Server(f"{guarded.partition(' password=')[0]} passfile={file}")
    assert f"no password supplied; there is no {file}: name a file" in refused(partial(prepare, server, 16))
    file.write_text("db:*:*:guarded:secret\n")
    file.chmod(0o600)
    assert f"{file} has no line HOST:PORT:DATABASE:USER:PASSWORD for it" in refused(partial(prepare, server, 16))
    file.write_text("*:*:*:guarded:open sesame\\: \\\\%@/\n")
    assert prepare(server, 16) == 16
    file.chmod(0o640)
    assert f"{file} is ignored, since others may read it (mode 640)" in refused(partial(prepare, server, 16))
    postgres_server.drop(server.conninfo)


def test_of_several_hosts_that_which_took_the_last_connection_is_tried_first(postgres: str) -> None:
    asked: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    client, address = listening.accept()
                    asked.append(address)
                    client.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        place = dict(each.split("=", 1) for each in postgres.split())
        gone = listening.getsockname()[1]
        server = Server(f"{postgres} host=127.0.0.1,{place['host']},localhost port={gone},{place['port']},1")
        for _ in range(3):
            server.connect("test").close()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(asked) <= 2  # TLS is tried first, then without
    assert len(asked) > 0


def test_each_of_several_hosts_is_named_with_its_reason(postgres: str) -> None:
    line = refused(lambda: prepare(Server(f"{postgres} host=127.0.0.1,localhost,/nowhere port=1,2,3"), 16))
    *reasons, way_out = line.partition("cannot be used: ")[2].split("; ")
    places = [
        'server at "127.0.0.1", port 1',
        'server at "127.0.0.1", port 2',
        'server on socket "/nowhere/.s.PGSQL.3"',
    ]
    failures = ("Connection refused", "Connection refused", "No such file or directory")
    assert reasons == [f"connection to {place} failed: {why}" for place, why in zip(places, failures, strict=True)]
    assert way_out == "no server listens there: start it, or mend host and port in fleet.postgres"


def test_what_libpq_guesses_is_left_out_and_each_try_is_told_once() -> None:
    with_tls = 'connection to server at "db1", port 5432 failed: FATAL: no pg_hba.conf entry, SSL encryption'
    without = 'connection to server at "db1", port 5432 failed: FATAL: no pg_hba.conf entry, no encryption'
    assert reason(psycopg.OperationalError(f"connection failed: {with_tls}\n{without}\n{without}")) == (
        f"{with_tls}; {without}"
    )
    guess = "\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request."
    assert reason(
        psycopg.OperationalError(f"consuming input failed: server closed the connection unexpectedly{guess}")
    ) == ("server closed the connection unexpectedly; its log says why, or that of the proxy or pool between")


def test_a_server_that_only_stands_by_takes_no_node(postgres_server: PostgresServer, postgres: str) -> None:
    in_database(postgres, f"ALTER DATABASE {database_of(postgres)} SET default_transaction_read_only = on")
    assert "session is read-only" in refused(lambda: prepare(Server(postgres), 16))


def test_the_settings_of_a_connection_are_those_the_journal_needs(postgres: str) -> None:
    in_database(postgres, f"ALTER DATABASE {database_of(postgres)} SET synchronous_commit = off")
    with closing(Server(postgres).connect("test")) as connection:
        settings = connection.execute(
            "SELECT current_setting('synchronous_commit'), current_setting('enable_seqscan'),"
            " current_setting('idle_in_transaction_session_timeout'), current_setting('application_name')"
        ).fetchone()
    assert settings == ("on", "off", "5s", "stackit test")
    in_database(postgres, f"ALTER DATABASE {database_of(postgres)} SET synchronous_commit = remote_apply")
    in_database(postgres, f"ALTER DATABASE {database_of(postgres)} SET default_transaction_isolation = serializable")
    in_database(postgres, f"ALTER DATABASE {database_of(postgres)} SET statement_timeout = '1min'")
    in_database(postgres, f"ALTER DATABASE {database_of(postgres)} SET idle_session_timeout = '1min'")
    in_database(postgres, f"ALTER DATABASE {database_of(postgres)} SET extra_float_digits = -3")
    with closing(Server(postgres, lease=2.0).connect("test", by_indexes=False)) as connection:
        settings = connection.execute(
            "SELECT current_setting('synchronous_commit'), current_setting('enable_seqscan'),"
            " current_setting('idle_in_transaction_session_timeout'), current_setting('transaction_isolation'),"
            " current_setting('statement_timeout'), current_setting('idle_session_timeout'),"
            " current_setting('extra_float_digits')"
        ).fetchone()
    assert settings == ("remote_apply", "on", "2s", "read committed", "0", "0", "1")
