"""A PostgreSQL for tests: a server of their own in a temporary directory, with standbys, faults and databases."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from stackit.testing.ports import PORTS
from stackit.testing.postgres_binaries import NOBODY, postgres_binaries

PATIENCE = 60.0
"""Seconds that a start, a stop or a step of a standby may take before a test fails."""

_LAST_WORDS = 60.0
_POLL = 0.01
_PREFIX = "stackit-postgres-"

_SETTINGS = {
    # No test cuts the power: a kill of the server leaves what it wrote to the kernel.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    # Files in its own directory: a server that is killed would leave them behind in /dev/shm.
    "dynamic_shared_memory_type": "mmap",
    "listen_addresses": "127.0.0.1",
    "wal_keep_size": "256MB",
    "wal_retrieve_retry_interval": "100ms",
}
_ACCESS = """\
local all guarded scram-sha-256
host all guarded all scram-sha-256
local all,replication all trust
host all,replication all 127.0.0.1/32 trust
"""
_GUARDED = """
import ctypes, os, signal, sys
prctl, user, argv = ctypes.CDLL(None).prctl, sys.argv[1], sys.argv[2:]
if user:
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
prctl(1, int(signal.SIGINT))  # PR_SET_PDEATHSIG, which a change of the user would undo
os.execv(argv[0], argv)
"""
"""Python of a process that becomes the server, and is told to end when a test run is killed that started it."""


class PostgresFailed(AssertionError):
    """The server did not reach the expected state; the text has the end of its log."""


class PostgresServer:
    """A PostgreSQL, reached by a Unix socket and by TCP on 127.0.0.1. All calls block.

    ``settings`` adds to its configuration. ``directory`` is where its data is, a temporary one unless given; it is
    removed by ``close``. Root runs it as the user nobody. Without a caller it ends by itself.
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None, directory: Path | None = None) -> None:
        _remove_abandoned()
        self.directory = directory or Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        self.port = 0
        self.name = "primary"
        self._binaries = postgres_binaries(self.directory)
        self._settings = {**_SETTINGS, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.standbys: list[PostgresServer] = []
        self._databases = 0
        self._own(self.directory)

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Its life

    def start(self) -> None:
        """Start the server, and wait until it answers. The first start makes the cluster. Raises PostgresFailed."""
        if not self._data.exists():
            self._initialise()
        for _ in range(20):
            self.port = self.port or secrets.choice(PORTS)
            process = self._spawn()
            if self._ready(process):
                self._process = process
                return
            if "could not bind" not in self.log:
                break
            self.port = 0
        raise PostgresFailed(f"PostgreSQL ended with status {process.returncode}:\n{self.log[-4000:]}")

    def stop(self, mode: str = "fast") -> None:
        """End the server: ``fast`` cuts its clients off, ``immediate`` is a crash, ``smart`` waits for the clients."""
        self._end({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])

    def restart(self, mode: str = "fast") -> None:
        """End the server, and start it again on the same port."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """End the server and all its processes at once (SIGKILL)."""
        children = self._signal(signal.SIGKILL)
        self._end(signal.SIGKILL)
        _wait_until_gone(children)  # those that are left have its memory, and it could not be started again

    def pause(self) -> None:
        """Freeze the server with all its processes (SIGSTOP): it keeps its connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End the server and its standbys, and remove all their files."""
        for standby in self.standbys:
            standby.close()
        self.resume()
        self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def running(self) -> bool:
        """Return whether the server runs."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Return the id of its first process while the server runs."""
        return None if self._process is None else self._process.pid

    @property
    def log(self) -> str:
        """The server's log, over all starts."""
        file = self.directory / "log"
        return file.read_text("utf-8", errors="replace") if file.exists() else ""

    # Its databases

    def database(self, *, template: str = "template1", password: str | None = None) -> str:
        """Make an empty database, or a copy of the database ``template``, and return its conninfo.

        It belongs to ``stackit``, who is no superuser. With ``password`` it belongs to ``guarded``, who has to show it.
        """
        self._databases += 1
        name, user = f"stackit_{self._databases}", "stackit" if password is None else "guarded"
        if password is not None:
            self.execute(f"ALTER ROLE guarded PASSWORD '{password}'")
        self.execute(f'CREATE DATABASE {name} OWNER {user} TEMPLATE "{template}"')
        return self.conninfo(name, user) + (f" password={password}" if password is not None else "")

    def drop(self, conninfo: str) -> None:
        """Remove a database, with whatever is connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {database_of(conninfo)} WITH (FORCE)")

    def conninfo(self, database: str = "postgres", user: str = "stackit", *, tcp: bool = False) -> str:
        """Return how a database is reached: by the Unix socket, or by TCP."""
        host = "127.0.0.1" if tcp else self.directory
        return f"host={host} port={self.port} dbname={database} user={user}"

    def execute(self, statement: str, *values: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, outside a transaction, and return its rows. It waits for no standby."""
        import psycopg  # noqa: PLC0415 - only what asks a server has to have it

        local = f"{self.conninfo(database, 'postgres')} options='-c synchronous_commit=local'"
        with closing(psycopg.connect(local, autocommit=True)) as connection:
            cursor = connection.execute(statement.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def clients(self, database: str | None = None) -> list[str]:
        """Return what is connected, each as its name and its state; of one database, or of all."""
        rows = self.execute(
            "SELECT application_name || ' ' || pid || ' ' || coalesce(state, '') || ': ' || left(query, 80)"
            " FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " AND coalesce(datname = %s, true)",
            database,
        )
        return [each for (each,) in rows]

    def left_behind(self, conninfo: str) -> list[str]:
        """Return what is still connected to a database some seconds later: a client that was killed goes at once."""
        deadline = time.monotonic() + _LAST_WORDS
        while (left := self.clients(database_of(conninfo))) and time.monotonic() < deadline:
            time.sleep(_POLL)
        return left

    def cut_connections(self, database: str | None = None) -> int:
        """Cut every client off, or those of one database, as a failing network would. Return how many."""
        rows = self.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() AND coalesce(datname = %s, true)",
            database,
        )
        return len(rows)

    # Its standbys

    def standby(self, name: str) -> PostgresServer:
        """Make and start a standby that follows this server. It is closed with this one."""
        standby = PostgresServer(settings=self._settings)
        standby.name, standby._databases = name, self._databases
        self.standbys.append(standby)
        follow = f"host={self.directory} port={self.port} user=postgres application_name={name}"
        copy = [f"--dbname={follow}", f"--pgdata={standby._data}", "--write-recovery-conf", "--checkpoint=fast"]
        standby._run("pg_basebackup", *copy, "--no-sync")
        standby.start()
        return standby

    def wait_for_standbys(self, *names: str) -> None:
        """Have every commit wait for one of the named standbys; with no names, for none. Wait until it holds."""
        wanted = f"ANY 1 ({', '.join(names)})" if names else ""
        self.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{wanted}'")
        self.execute("SELECT pg_reload_conf()")
        self._until(
            "SELECT current_setting('synchronous_standby_names') = %s AND (%s OR EXISTS"
            " (SELECT FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')))",
            wanted,
            not names,
        )

    def promote(self) -> None:
        """Make a standby the primary, and wait until it takes writes."""
        self.execute("SELECT pg_promote(wait => false)")
        self._until("SELECT NOT pg_is_in_recovery()")

    # Inside

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _initialise(self) -> None:
        user = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", f"--pgdata={self._data}", *user)
        with (self._data / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self._settings.items())
        (self._data / "pg_hba.conf").write_text(_ACCESS)
        # A server that only reads its files makes the roles, before anybody is let in.
        roles = "CREATE ROLE stackit LOGIN; CREATE ROLE guarded LOGIN;"
        single = ["--single", "-j", "-D", str(self._data), "template1"]
        self._run("postgres", *single, text=f"{roles}\n\n")

    def _spawn(self) -> subprocess.Popen[bytes]:
        argv = [
            str(self._binaries / "postgres"),
            "-D",
            str(self._data),
            "-p",
            str(self.port),
            "-k",
            str(self.directory),
        ]
        user = str(NOBODY) if os.geteuid() == 0 else ""
        guarded = {**self._as(), "user": None, "group": None, "extra_groups": None}
        argv = [sys.executable, "-I", "-S", "-c", _GUARDED, user, *argv]
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0, **guarded)

    def _ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the server takes clients; return False if it has ended."""
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None:
            with suppress(FileNotFoundError):
                lines = (self._data / "postmaster.pid").read_text().splitlines()
                if lines[7:8] and lines[7].strip() in ("ready", "standby"):
                    return True
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise PostgresFailed(f"PostgreSQL did not start within {PATIENCE:g} s:\n{self.log[-4000:]}")
            time.sleep(_POLL)
        return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise PostgresFailed(f"PostgreSQL did not end within {PATIENCE:g} s:\n{self.log[-4000:]}") from None

    def _signal(self, number: signal.Signals) -> list[int]:
        """Send a signal to the server and to each of its other processes, and return the ids of these."""
        if self._process is None:
            return []
        main = self._process.pid
        os.kill(main, signal.SIGSTOP)  # it begins no others meanwhile; once it has ended, these are nobody's
        children = [int(each) for each in Path(f"/proc/{main}/task/{main}/children").read_text().split()]
        for each in (*children, main):
            with suppress(ProcessLookupError):
                os.kill(each, number)
        return children

    def _until(self, question: str, *values: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.execute(question, *values)[0][0]:
            if time.monotonic() > deadline:
                raise PostgresFailed(f"waited {PATIENCE:g} s in vain for {question}:\n{self.log[-4000:]}")
            time.sleep(_POLL)

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        argv = [str(self._binaries / program), *arguments]
        done = subprocess.run(
            argv, input=text.encode(), capture_output=True, check=False, timeout=PATIENCE, **self._as()
        )
        if done.returncode:
            raise PostgresFailed(f"{program} ended with status {done.returncode}:\n{done.stderr.decode()[-4000:]}")

    def _as(self) -> dict[str, Any]:
        """Return the user, the place and the environment of the server's programs."""
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.directory)}
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        return {"cwd": self.directory, "env": environment, **user}

    def _own(self, directory: Path) -> None:
        if os.geteuid() == 0:
            os.chown(directory, NOBODY, NOBODY)


def database_of(conninfo: str) -> str:
    """Return the name of the database of a conninfo that ``PostgresServer`` made."""
    return dict(each.split("=", 1) for each in conninfo.split())["dbname"]


def _wait_until_gone(processes: Sequence[int]) -> None:
    """Wait for the end of processes that were killed: on a busy machine each of them ends when it is its turn."""
    deadline = time.monotonic() + PATIENCE
    while any(map(_is_there, processes)) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _is_there(process: int) -> bool:
    """Return whether a process runs; one that has ended may be there until somebody collects it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _remove_abandoned() -> None:
    """Remove the files of servers whose test run was killed."""
    for each in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = each.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(each, ignore_errors=True)
