"""Deliveries per second of the journal alone: appended and finished, so many at a time.

``--beside DIRECTORY`` measures a second checkout of stackit in turn with this one: every round has both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUTSTANDING = (1, 8, 64, 256)

CHILD = """
import hashlib, itertools, json, os, sys, time
from pathlib import Path
from twisted.internet import reactor
from stackit.journal import NewDelivery
from stackit.journal.sqlite import SQLiteJournal

directory, outstanding, seconds = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
filler = b'"name":"widget","url":"https://github.com/octo/widget/commit/%d",' * 120
journal = SQLiteJournal.open(directory / "state", reactor=reactor)
numbers = itertools.count()
times = []
running = 0

def begin():
    global running
    if time.monotonic() > until:
        if not running:
            reactor.stop()
        return
    running += 1
    number = next(numbers)
    body = filler.replace(b"%d", b"%d" % number)[:8192]
    began = time.perf_counter()

    def appended(result):
        times.append(time.perf_counter() - began)
        journal.finish(result.handlings[0].id, finished, at=2.0)

    journal.append(NewDelivery(
        hook="7", delivery=f"d{number}", event="push", action=None, repo=f"octo/widget{number % 100}", received_at=1.0,
        digest=hashlib.sha256(body).digest(), body=body, subscribers=("mirror",),
    ), appended)

def finished(_):
    global running
    running -= 1
    begin()

until = time.monotonic() + seconds
for _ in range(outstanding):
    reactor.callWhenRunning(begin)
reactor.run()
times.sort()
print(json.dumps({"per_second": len(times) / seconds, "p99_ms": times[len(times) * 99 // 100] * 1000}))
os._exit(0)
"""


def measure(checkout: Path, outstanding: int, seconds: float) -> dict[str, float]:
    """Run one journal of a checkout: ``per_second`` and ``p99_ms`` of the appends."""
    with tempfile.TemporaryDirectory(dir=HERE) as directory:
        ran = subprocess.run(
            [sys.executable, "-c", CHILD, directory, str(outstanding), str(seconds)],
            env={**os.environ, "PYTHONPATH": str(checkout)},
            cwd=directory,
            stdout=subprocess.PIPE,
            check=True,
        )
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--beside", type=Path, help="another checkout of stackit")
    given = parser.parse_args()

    checkouts = [HERE.parent, *([given.beside.resolve()] if given.beside else [])]
    rates: dict[tuple[Path, int], list[float]] = {}
    slowest: dict[tuple[Path, int], list[float]] = {}
    for round_ in range(given.rounds):
        # Each goes first in every other round: what the machine does meanwhile meets both.
        for checkout in checkouts if round_ % 2 == 0 else checkouts[::-1]:
            for outstanding in OUTSTANDING:
                found = measure(checkout, outstanding, given.seconds)
                rates.setdefault((checkout, outstanding), []).append(found["per_second"])
                slowest.setdefault((checkout, outstanding), []).append(found["p99_ms"])
    print("| outstanding | checkout | per second, median | least to most | p99 of an append, median (ms) |")
    print("|---|---|---|---|---|")
    for outstanding in OUTSTANDING:
        for checkout in checkouts:
            rate = rates[checkout, outstanding]
            p99 = statistics.median(slowest[checkout, outstanding])
            spread = f"{min(rate):,.0f} to {max(rate):,.0f}"
            print(f"| {outstanding} | {checkout} | {statistics.median(rate):,.0f} | {spread} | {p99:.1f} |")


if __name__ == "__main__":
    main()
