"""A day of a whole stackit in a minute or two, on a simulated clock: does anything grow?"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import harness
import mirror_setup
import plots
from harness import Goal, Report, Table
from mirror_setup import reactor
from twisted.logger import globalLogBeginner

from stackit.runtime.log_lines import text_line
from stackit.runtime.log_observer import LineObserver

# The same as in the test of a day.
sys.path.append(str(harness.HERE.parent / "tests" / "support"))
from simulated_day import Day

MEMORY, LOG = "memory, MiB", "log, KiB in the hour"
OBJECTS, BLOCKS = "Python objects", "Python memory blocks"
WARM, LAST = (4, 7), (22, 24)
"""Hours that are compared; before the first, the journal does not forget yet and pools are not filled."""
TOLERANCE = 1.05
FEW = 5
"""By as much any figure may differ, but for the memory: one more is a twentieth of a small count."""


async def measure(directory: Path, repositories: int, hours: int) -> None:
    day = Day(reactor, directory, repositories)
    log = directory / "log"
    with log.open("w") as stream:
        globalLogBeginner.beginLoggingTo(
            [LineObserver(stream, text_line)],  # type: ignore[list-item]  # zope: it is one
            redirectStandardIO=False,
            discardBuffer=True,
        )
        began = reactor.seconds()
        print(f"making {repositories} repositories, and mirrors of them", flush=True)
        await day.start()
        table = Table(f"A day of {repositories} repositories", "at the end of the hour", [])
        found: dict[str, list[float]] = {}
        for hour in range(1, hours + 1):
            written = log.stat().st_size
            await day.pass_hour()
            figures = day.figures() | {
                MEMORY: mirror_setup.resident(os.getpid()),
                OBJECTS: len(gc.get_objects()),
                BLOCKS: sys.getallocatedblocks(),
                LOG: (log.stat().st_size - written) / 1024,
            }
            for name, figure in figures.items():
                found.setdefault(name, []).append(figure)
            print(
                f"hour {hour} of {hours}: {figures[MEMORY]:.1f} MiB, {figures[OBJECTS]:,} objects, "
                f"{figures['delayed calls']:.0f} delayed calls, {reactor.seconds() - began:.0f} s",
                flush=True,
            )
        took = reactor.seconds() - began
        await day.stop()
        statuses = ", ".join(f"{status} {count:,} times" for status, count in sorted(day.statuses.items()))
    warm, last = f"hours {WARM[0]} to {WARM[1]}", f"hours {LAST[0]} to {LAST[1]}"
    table.columns = ["hour 1", warm, last]
    growth = {}
    for name, values in found.items():
        before, after = (statistics.median(values[first - 1 : end] or values[-1:]) for first, end in (WARM, LAST))
        for column, figure in zip(table.columns, (values[0], before, after), strict=True):
            table.add(name, column, figure)
        few = name != MEMORY and abs(after - before) <= FEW
        growth[name] = 1.0 if few else after / before if before else float("inf")
    worst = max(growth, key=lambda name: growth[name])
    goals = [
        Goal(f"what grew most ({worst}), {last}, as a multiple of {warm}", TOLERANCE, growth[worst], at_most=True),
        Goal("delayed calls that are left after the stop", 0, len(day.clock.getDelayedCalls()), at_most=True),
    ]
    notes = [
        f"{hours} hours in {took:.0f} s: the time is simulated; sockets, journal, git and threads are real, and the "
        "pretend GitHub and its clients are in the same process",
        f"a look every 5 minutes, journal kept for an hour; deliveries were answered {statuses}",
        "refused requests come from ever new addresses; handlers fail once, always, for good, hang, and block",
    ]
    Report("day", "A day", [table], goals, notes, {}).write(day=_picture(found))


def _picture(found: dict[str, list[float]]) -> str:
    """Each figure as a part of what it was after the warm-up."""
    drawn = [MEMORY, BLOCKS, LOG, "delayed calls", "descriptors", "journal, events", "journal, KiB"]
    shares: dict[str, Any] = {}
    for name in drawn:
        values = found[name]
        usual = statistics.median(values[WARM[0] - 1 : WARM[1]] or values) or 1.0
        shares[name] = [value / usual for value in values]
    return plots.lines(f"A day: each figure as a multiple of hours {WARM[0]} to {WARM[1]}", shares, across="hour")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repositories", type=int, default=100)
    parser.add_argument("--hours", type=int, default=24)
    given = parser.parse_args()
    mirror_setup.main(measure, [given.repositories, given.hours])
