"""What the benchmarks of a fleet share: a PostgreSQL on the load's disk that syncs, and nodes on a core each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from receivers import SECRET

from stackit.testing import PostgresServer
from stackit.testing.postgres import database_of
from stackit.testing.toml import toml

WEBHOOK = "/api/v1/webhooks/github"
DATABASE_CORE = harness.LOAD_CORE
SPARE_CORE = 2 if 2 in harness.CORES else harness.LOAD_CORE
"""The core of the load beside a database: a third, where there is one."""

_DURABLE = {"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB", "max_wal_size": "2GB"}


@dataclass(frozen=True)
class Node:
    """A stackit at work: its port, its process, and the part of the deliveries that it gets."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def database(directory: Path) -> Iterator[tuple[PostgresServer, str]]:
    """A server that makes each commit durable, on a core of its own, and the conninfo of an empty database."""
    directory.chmod(0o711)  # root runs the server as another user
    place = directory / "postgres"
    place.mkdir()
    with PostgresServer(settings=_DURABLE, directory=place) as server:
        # What it starts from now on, such as the processes of its clients, stays on that core.
        for pid in family(server.pid or 0) if DATABASE_CORE in harness.CORES else []:
            os.sched_setaffinity(pid, {DATABASE_CORE})
        yield server, server.database()


@contextmanager
def node(
    directory: Path,
    name: str,
    conninfo: str | None,
    *,
    core: int = harness.SERVER_CORE,
    fleet: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> Iterator[Node]:
    """A stackit with its own state and port: a node of the fleet on ``conninfo``, or one with SQLite for itself."""
    place = directory / name
    place.mkdir()
    port, admin = harness.free_port(), harness.free_port()
    table: dict[str, Any] = dict(config or {})
    if conninfo is not None:
        table["fleet"] = {"postgres": conninfo, "node": name, "address": f"http://127.0.0.1:{admin}", **(fleet or {})}
    (place / "twistd.conf").write_text(toml(table))
    argv = [sys.executable, str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
    argv += [f"--logfile={place / 'stackit.log'}", "stackit", "--listen", f"tcp:{port}:interface=127.0.0.1"]
    argv += ["--admin-listen", f"tcp:{admin}:interface=127.0.0.1", "--state-dir", str(place / "state")]
    env = {"STACKIT_GITHUB_WEBHOOK_SECRET": SECRET}
    with harness.serving(argv, port, cwd=place, env=env, core=core) as process:
        yield Node(port, process)


def settle(server: PostgresServer, conninfo: str, names: Sequence[str]) -> None:
    """Wait until each node has a part of the handlers' work."""
    database = database_of(conninfo)
    question = (
        "SELECT array_agg(DISTINCT n.name) FROM shards s JOIN nodes n ON n.incarnation = s.owner WHERE space = 'e'"
    )
    harness.until(
        lambda: set(server.execute(question, database=database)[0][0] or ()) == set(names), "the work to be divided"
    )


def load(nodes: Sequence[Node], connections: int, seconds: float, *, core: int, size: int = 8192) -> dict[str, Any]:
    """The load on all nodes at once, each with its part of the connections: figures of all together."""
    each = max(1, connections // len(nodes))
    with ThreadPoolExecutor(len(nodes)) as together:
        found = list(
            together.map(
                lambda one: harness.load(
                    one.port, WEBHOOK, SECRET, size=size, connections=each, seconds=seconds, core=core
                ),
                nodes,
            )
        )
    for one in found:
        if set(one["statuses"]) != {"202"}:
            raise RuntimeError(f"answered {one['statuses']} instead of 202")
    return {
        "per_second": sum(one["per_second"] for one in found),
        "answered": sum(sum(one["statuses"].values()) for one in found),
        "p50_ms": max(one["p50_ms"] for one in found),
        "p99_ms": max(one["p99_ms"] for one in found),
    }


def cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU that processes have used, with those of their children that ended."""
    used = 0
    for pid in pids:
        with suppress(FileNotFoundError):  # it counts for its parent
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += sum(map(int, fields[11:15]))
    return used / os.sysconf("SC_CLK_TCK")


def cpu_of_family(pid: int) -> float:
    """The same of a process and of those below it."""
    return cpu(family(pid)) if pid else 0.0


def family(pid: int) -> list[int]:
    """A process and those below it."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
