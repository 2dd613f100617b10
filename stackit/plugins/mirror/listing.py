"""The list of the repositories in pages, by name and state: only those of a page are looked at closely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import nsmallest

import msgspec

from stackit.plugins.mirror.sync.status import STATES, State
from stackit.plugins.mirror.sync.worker import MirrorWorker

MOST = 500
"""Repositories, or refs, of one page."""
DEFAULT = 100


class Found(msgspec.Struct, frozen=True):
    """A page: its workers by name, the cursor of the next page, and how many of all that fit are in each state."""

    workers: list[MirrorWorker]
    next: str | None
    states: dict[State, int]


def find_page(workers: Iterable[MirrorWorker], text: str, state: str | None, limit: int, cursor: str) -> Found:
    """Return the page of at most ``limit`` repositories behind ``cursor``, in whose name is ``text``."""
    text = text.lower()
    counts: Counter[State] = Counter()
    behind: list[tuple[str, MirrorWorker]] = []
    for worker in workers:
        key = worker.managed.repo.key
        if text not in key:
            continue
        found = worker.presumed_state
        counts[found] += 1
        if key > cursor and (state is None or state == found):
            behind.append((key, worker))
    page = nsmallest(limit + 1, behind, key=lambda each: each[0])
    more = len(page) > limit
    page = page[:limit]
    return Found([worker for _, worker in page], page[-1][0] if more else None, {each: counts[each] for each in STATES})


def page_limit(text: str | None) -> int:
    """Return the number of rows of a page that a query asks for. Raises ValueError."""
    if text is None:
        return DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST):
        raise ValueError(f"limit: expected a number from 1 to {MOST}")
    return int(text)
