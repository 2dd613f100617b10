"""What a process holds, as the kernel tells, and whether that grew."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import msgspec
from outside import alive, descendants

MEMORY_ALLOWED = 1.15
"""Of the memory at the beginning: the allocator keeps what a busier moment needed."""
MEMORY_SPARE = 16 * 2**20
ENOUGH = 6
"""Measurements without which nothing is said: two thirds of them are compared."""


class Vitals(msgspec.Struct, frozen=True):
    """``memory`` is resident bytes; the others are counts."""

    memory: int
    descriptors: int
    threads: int
    children: int

    @classmethod
    def of(cls, pid: int | None) -> Vitals:
        """Those of a process now."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(
            memory=int(fields["VmRSS"].split()[0]) * 1024,
            descriptors=descriptors(pid),
            threads=int(fields["Threads"]),
            children=len(alive(descendants(pid))),
        )

    def __str__(self) -> str:
        return (
            f"{self.memory / 2**20:.0f} MiB, {self.descriptors} descriptors, "
            f"{self.threads} threads, {self.children} children"
        )


def descriptors(pid: int | None) -> int:
    """How many descriptors a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def growth(measured: list[Vitals]) -> list[str]:
    """What the last third of the measurements has more of than the first third; a line each."""
    if len(measured) < ENOUGH:
        return []
    third = len(measured) // 3
    problems = []
    for name in Vitals.__struct_fields__:
        first, last = (median(getattr(each, name) for each in part) for part in (measured[:third], measured[-third:]))
        allowed = max(first * MEMORY_ALLOWED, first + MEMORY_SPARE) if name == "memory" else first + 4
        if last > allowed:
            problems.append(f"{name} grew from {first:g} to {last:g}")
    return problems
