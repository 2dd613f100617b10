"""What the receiver pays for live clients: deliveries per second with and without 200 streams of events."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import harness
from harness import Goal, Report, Table
from receivers import SECRET

ALONE, WATCHED, OF_ONE = "nobody watches", "200 clients, everything", "200 clients, one repository each"
RATE, CPU, LATE = "deliveries per second", "receiver's CPU, µs each", "99th percentile, ms"
CLIENTS = 200
SIZE, CONNECTIONS = 8192, 64
WEBHOOK = "/api/v1/webhooks/github"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    given = parser.parse_args()
    table = Table(f"The receiver beside {CLIENTS} live clients", "each round", [RATE, CPU, LATE])
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", flush=True)
        for row, query in ((ALONE, None), (WATCHED, ""), (OF_ONE, "?repo=bench/repository-{number}")):
            _measure(table, row, query, given.seconds)
    goals = [
        Goal(f"deliveries per second with {row}, as a part of those with nobody", 0.9, table.ratio(row, ALONE, RATE))
        for row in (WATCHED, OF_ONE)
    ]
    notes = [
        f"{given.rounds} rounds, one after the other in each; {given.seconds:g} s on a server just started; pushes of "
        f"{SIZE} bytes over {CONNECTIONS} connections, about 100 repositories",
        "the clients share the core of the load, which slows the load, too: the receiver's CPU for a delivery does not "
        "know of that",
    ]
    Report("live", "Live clients", [table], goals, notes, {}).write()


def _measure(table: Table, row: str, query: str | None, seconds: float) -> None:
    with harness.scratch() as directory, _stackit(directory) as (process, port, admin):
        watching = nullcontext() if query is None else _clients(admin, query)
        with watching:
            before = _cpu(process.pid)
            found = harness.load(port, WEBHOOK, SECRET, size=SIZE, connections=CONNECTIONS, seconds=seconds)
            used = _cpu(process.pid) - before
    answered = sum(found["statuses"].values())
    if set(found["statuses"]) != {"202"}:
        raise RuntimeError(f"answered {found['statuses']} instead of 202")
    table.add(row, RATE, found["per_second"])
    table.add(row, CPU, used / answered * 1e6)
    table.add(row, LATE, found["p99_ms"])
    print(f"  {row}: {found['per_second']:,.0f} per second, {used / answered * 1e6:.0f} µs each", flush=True)


@contextmanager
def _stackit(directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, int]]:
    """stackit without a configuration, as the receiver's benchmark has it: its process, and the ports of both sides."""
    port, admin = harness.free_port(), harness.free_port()
    argv = [sys.executable, str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
    argv += [f"--logfile={directory / 'stackit.log'}", "stackit", "--listen", f"tcp:{port}:interface=127.0.0.1"]
    argv += ["--admin-listen", f"tcp:{admin}:interface=127.0.0.1", "--state-dir", str(directory / "state")]
    with harness.serving(argv, port, cwd=directory, env={"STACKIT_GITHUB_WEBHOOK_SECRET": SECRET}) as process:
        yield process, port, admin


@contextmanager
def _clients(port: int, query: str) -> Iterator[None]:
    """The clients, in a process of their own, once all of their streams have begun."""
    argv = [sys.executable, str(harness.HERE / "live_clients.py"), str(port), str(CLIENTS), query]
    process = subprocess.Popen(harness.pinned(harness.LOAD_CORE, argv), stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the streams did not begin")
        yield
        if process.poll() is not None:
            raise RuntimeError("a client was cut: it has to read faster")
    finally:
        process.kill()
        process.wait()


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
