"""Time to start and memory, by the number of managed repositories."""

from __future__ import annotations

import argparse
from pathlib import Path

import mirror_setup
import plots
from harness import Report, Table
from mirror_setup import reactor

START, MEMORY = "start to first answer, s", "memory, MiB"


async def measure(directory: Path, rounds: int, sizes: list[int]) -> None:
    table = Table("Managed repositories", "for each number", [START, MEMORY])
    for round_ in range(rounds):
        for size in sizes:
            # Nobody is asked: the backstop is off, and no push comes.
            urls = {f"bench/repository-{number}": "http://127.0.0.1:9/none.git" for number in range(size)}
            print(f"round {round_ + 1} of {rounds}: {size:,} repositories", flush=True)
            began = reactor.seconds()
            async with mirror_setup.stackit(directory / f"{size}-{round_}", urls, sync={"interval": "0"}) as server:
                table.add(f"{size:,}", START, reactor.seconds() - began)
                table.add(f"{size:,}", MEMORY, mirror_setup.resident(server.pid or 0))
    pictures = {
        "growth": plots.bars(f"Memory by managed repositories, MiB ({rounds} rounds)", _column(table, MEMORY), ours=""),
        "growth-start": plots.bars(f"Start to first answer, s ({rounds} rounds)", _column(table, START), ours=""),
    }
    few, many = f"{sizes[0]:,}", f"{sizes[-1]:,}"
    each = {
        column: ((table.median(many, column) or 0) - (table.median(few, column) or 0)) / max(sizes[-1] - sizes[0], 1)
        for column in (START, MEMORY)
    }
    notes = [
        f"{rounds} rounds; no mirror is cloned, the backstop is off",
        f"each repository more: {each[START] * 1e6:.0f} µs of the start, {each[MEMORY] * 1024:.1f} KiB of memory",
    ]
    Report("growth", "Growth", [table], [], notes, {}).write(**pictures)


def _column(table: Table, column: str) -> dict[str, list[float]]:
    return {row: cells[column] for row, cells in table.cells.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 1_000, 10_000])
    given = parser.parse_args()
    mirror_setup.main(measure, [given.rounds, given.sizes])
