"""Deliveries per second on one core: stackit, durable, beside receivers that are not."""

from __future__ import annotations

import argparse

import harness
import plots
from harness import Goal, Report, Table
from receivers import SECRET, STACKIT, WITHOUT_JOURNAL, CannotRun, Receiver, receivers

LOADS = {
    "8 KB, 8 connections": (8192, 8),
    "8 KB, 64": (8192, 64),
    "200 KB, 8": (200_000, 8),
    "200 KB, 64": (200_000, 64),
}
GIDGETHUB, GO = "gidgethub, aiohttp", "Go net/http"
CEILING = "(answers, looks at nothing)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--only", default="", help="those whose name contains this; nothing is written")
    given = parser.parse_args()

    throughput = Table("Deliveries answered", "per second", list(LOADS))
    slowest = Table("Time to the answer, 99th percentile", "ms", list(LOADS))
    skipped: dict[str, str] = {}
    measured = [each for each in receivers() if given.only in each.name and _is_ready(each, skipped)]
    for round_ in range(given.rounds):
        for receiver in measured:
            if receiver.name in skipped:
                continue
            print(f"round {round_ + 1} of {given.rounds}: {receiver.name}", flush=True)
            try:
                _measure(receiver, given.seconds, throughput, slowest)
            except (CannotRun, RuntimeError) as problem:
                skipped[receiver.name] = str(problem)
                print(f"  skipped: {problem}", flush=True)
    if given.only:
        print(throughput.markdown(), slowest.markdown(), sep="\n")
    else:
        report(throughput, slowest, skipped, given.rounds, given.seconds)


def _is_ready(receiver: Receiver, skipped: dict[str, str]) -> bool:
    print(f"setting up {receiver.name}", flush=True)
    try:
        receiver.prepare()
    except CannotRun as why:
        skipped[receiver.name] = str(why)
        print(f"skipped: {receiver.name}: {why}", flush=True)
        return False
    return True


def _measure(receiver: Receiver, seconds: float, throughput: Table, slowest: Table) -> None:
    for load, (size, connections) in LOADS.items():
        with receiver.running() as port:
            found = harness.load(port, receiver.path, SECRET, size=size, connections=connections, seconds=seconds)
        wrong = {status: count for status, count in found["statuses"].items() if not status.startswith("2")}
        if wrong:
            raise RuntimeError(f"answered {wrong} instead of 2xx")
        throughput.add(receiver.name, load, found["per_second"])
        if found["p99_ms"] is not None:
            slowest.add(receiver.name, load, found["p99_ms"])
        print(f"  {load}: {found['per_second']:,.0f} per second, p99 {found['p99_ms'] or 0:.1f} ms", flush=True)


def report(throughput: Table, slowest: Table, skipped: dict[str, str], rounds: int, seconds: float) -> None:
    small, large = "8 KB, 64", "200 KB, 64"
    peers = [each for each in throughput.cells if each not in (STACKIT, WITHOUT_JOURNAL, CEILING)]
    fastest = max(peers, key=lambda each: throughput.median(each, large) or 0, default=GO)
    goals = [
        Goal(
            "durable, 8 KB, 64 connections, as a multiple of gidgethub",
            1.0,
            throughput.ratio(STACKIT, GIDGETHUB, small),
        ),
        Goal("durable, 8 KB, 64 connections, as a multiple of Go net/http", 1.0, throughput.ratio(STACKIT, GO, small)),
        Goal(
            f"durable, 200 KB, 64 connections, as a multiple of the fastest peer ({fastest})",
            2.0,
            throughput.ratio(STACKIT, fastest, large),
        ),
        Goal(
            "durable as a part of the same receiver without a journal, 8 KB, 64 connections",
            0.8,
            throughput.ratio(STACKIT, WITHOUT_JOURNAL, small),
        ),
    ]
    notes = [
        f"{rounds} rounds, one receiver after the other in each; {seconds:g} s on a server just started",
        "server on one core, load on another; signed pushes about 100 repositories, each with its own id and body",
        "stackit as it is without a configuration: journal with fsync, all bundled plugins, its log written to a file; "
        "no peer writes a delivery down before it answers",
    ]
    picture = plots.bars(
        "Deliveries per second, 8 KB, 64 connections, one core",
        {each: throughput.cells.get(each, {}).get(small, []) for each in (STACKIT, *peers)},
        ours=STACKIT,
    )
    Report("receive", "Receiving deliveries", [throughput, slowest], goals, notes, skipped).write(receive=picture)


if __name__ == "__main__":
    main()
