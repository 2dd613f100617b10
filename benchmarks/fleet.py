"""A fleet on one PostgreSQL: receivers by their number, lone deliveries, faults, and a million events."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import fleet_lone
import fleet_setup
import harness
from harness import Goal, Report, Table

from stackit.testing.postgres import database_of
from stackit.testing.postgres_binaries import PostgresMissing

SQLITE = "SQLite, one process"
RECEIVERS = {"PostgreSQL, 1 receiver": 1, "PostgreSQL, 2 receivers": 2, "PostgreSQL, 4 receivers": 4}
CONNECTIONS = {"8 connections": 8, "64": 64}
RATE, SLOWEST = "per second", "p99, ms"
OURS, THEIRS = "stackit's CPU, µs each", "the database's CPU, µs each"
LEASE = 3.0
FEWEST_STEPS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--lone", type=int, default=200, help="lone deliveries of each kind and round")
    parser.add_argument("--events", type=int, default=1_000_000, help="events with pruning; 0: not measured")
    given = parser.parse_args()
    columns = [f"{name}: {what}" for name in CONNECTIONS for what in (RATE, SLOWEST, OURS, THEIRS)]
    received = Table("Deliveries answered, each on disk", "8 KB", columns)
    lone = Table("First byte of a lone delivery to its handler", "ms", ["50th percentile", "99th percentile"])
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", flush=True)
        for row, receivers in {SQLITE: 0, **RECEIVERS}.items():
            for column, connections in CONNECTIONS.items():
                _receive(received, row, column, receivers, connections, given.seconds)
        for way in fleet_lone.WAYS:
            times = fleet_lone.measure(way, given.lone)
            lone.add(way, "50th percentile", times[len(times) // 2])
            lone.add(way, "99th percentile", times[len(times) * 99 // 100])
            print(f"  {way}: {times[len(times) // 2]:.1f} ms", flush=True)
    faults, found = _faults(given.seconds)
    tables = [received, lone, faults]
    growth = _growth(given.events) if given.events else None
    if growth is not None:
        tables.append(growth)
    Report("fleet", "A fleet", tables, _goals(received, found, growth), _notes(given), {}).write()


def _receive(table: Table, row: str, column: str, receivers: int, connections: int, seconds: float) -> None:
    with harness.scratch() as directory, ExitStack() as running:
        if not receivers:
            nodes = [running.enter_context(fleet_setup.node(directory, "a", None))]
            database = 0
        else:
            server, conninfo = running.enter_context(fleet_setup.database(directory))
            names = "abcd"[:receivers]
            cores = [harness.SERVER_CORE, *sorted(harness.CORES - {0, 1, 2}), *[harness.SERVER_CORE] * receivers]
            nodes = [
                running.enter_context(fleet_setup.node(directory, name, conninfo, core=core))
                for name, core in zip(names, cores, strict=False)
            ]
            fleet_setup.settle(server, conninfo, list(names))
            database = server.pid or 0
        ours = [each.process.pid for each in nodes]
        core = fleet_setup.SPARE_CORE if receivers else harness.LOAD_CORE
        fleet_setup.load(nodes, connections, 0.5, core=core)
        before = fleet_setup.cpu(ours), fleet_setup.cpu_of_family(database)
        found = fleet_setup.load(nodes, connections, seconds, core=core)
        used = fleet_setup.cpu(ours) - before[0], fleet_setup.cpu_of_family(database) - before[1]
    table.add(row, f"{column}: {RATE}", found["per_second"])
    table.add(row, f"{column}: {SLOWEST}", found["p99_ms"])
    # The load has a run before the one that it counts, of half a second.
    counted = found["answered"] * (1 + 0.5 / seconds)
    table.add(row, f"{column}: {OURS}", used[0] / counted * 1e6)
    if database:
        table.add(row, f"{column}: {THEIRS}", used[1] / counted * 1e6)
    print(f"  {row}, {connections} connections: {found['per_second']:,.0f} per second", flush=True)


def _faults(seconds: float) -> tuple[Table, dict[str, Any]]:
    columns = ["202 to done, slowest, s", "202, slowest, s", "lost", "out of order", "side by side", "done twice"]
    table = Table("Three nodes, a lease of 3 s, a fault under load", "each once", columns)
    argv = [sys.executable, str(harness.HERE / "fleet_faults.py"), f"--seconds={seconds}"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    for fault, figures in found.items():
        values = [figures[name] for name in ("slowest", "answer", "lost", "disorder", "overlaps", "twice")]
        for column, value in zip(columns, values, strict=True):
            table.add(fault, column, value)
    return table, found


def _growth(events: int) -> Table:
    """Deliveries until there were so many, of which the last minutes are kept: the time to the 202, by tenths."""
    table = Table(f"{events:,} events, pruned", "by tenths", ["answered", "median of the 202, ms", "database, MB"])
    with harness.scratch() as directory, ExitStack() as running:
        server, conninfo = running.enter_context(fleet_setup.database(directory))
        config = {"journal": {"keep_for": "1m"}}
        node = running.enter_context(fleet_setup.node(directory, "a", conninfo, config=config))
        fleet_setup.settle(server, conninfo, ["a"])
        name = database_of(conninfo)
        answered = 0
        steps: list[tuple[dict[str, Any], int]] = []
        while answered < events or len(steps) < FEWEST_STEPS:
            found = fleet_setup.load([node], 32, 5.0, core=fleet_setup.SPARE_CORE)
            answered += found["answered"]
            steps.append((found, server.execute("SELECT pg_database_size(%s)", name)[0][0]))
            print(f"  {answered:,} events, median {found['p50_ms']:.1f} ms", flush=True)
    for number, (found, size) in enumerate(steps):
        row = f"tenth {1 + 10 * number // len(steps)}"
        table.add(row, "answered", found["answered"])
        table.add(row, "median of the 202, ms", found["p50_ms"])
        table.add(row, "database, MB", size / 2**20)
    return table


def _goals(received: Table, faults: dict[str, Any], growth: Table | None) -> list[Goal]:
    one = next(iter(RECEIVERS))
    parts = "" if len(harness.CORES) > 2 else "the database has to share its core with the load here"
    kill = faults["kill -9 of a node"]
    broken = sum(figures[name] for figures in faults.values() for name in ("lost", "disorder"))
    goals = [
        Goal(
            "one receiver on PostgreSQL as a part of SQLite, 64 connections",
            0.75,
            received.ratio(one, SQLITE, f"64: {RATE}"),
            reason=parts,
        ),
        Goal("failover after kill -9: 202 to done, s", LEASE + 1, kill["slowest"], at_most=True),
        Goal("deliveries lost or out of order in all faults", 0, broken, at_most=True),
    ]
    if growth is not None:
        first, last = (growth.median(f"tenth {each}", "median of the 202, ms") for each in (1, 10))
        ratio = last / first if first and last else None
        goals.append(Goal("median of the 202 at the end, as a multiple of the beginning", 1.2, ratio, at_most=True))
    return goals


def _notes(given: argparse.Namespace) -> list[str]:
    cores = len(harness.CORES)
    load = "a third" if cores > 2 else "that of the database, of two that there are"
    return [
        f"{given.rounds} rounds, one after the other in each; {given.seconds:g} s on a fleet just started",
        f"the receivers have one core, the database another (fsync on, no standby), the load {load}",
        "several receivers share a core where there are no more than two: their sum tells what a fleet costs there, "
        "not what it could do",
        "a fault is one of three nodes with 20 repositories, to each of which a delivery is sent twenty times a second",
    ]


if __name__ == "__main__":
    try:
        main()
    except PostgresMissing as problem:
        sys.exit(str(problem))
