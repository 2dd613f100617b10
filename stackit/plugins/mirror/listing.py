"""The list of the repositories in pages, by name and state: only those of a page are looked at closely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import TypeAlias

import msgspec

from stackit import Timers
from stackit.plugins.mirror.fleet.distant import DistantMirror
from stackit.plugins.mirror.sync.status import STATES, State
from stackit.plugins.mirror.sync.worker import MirrorWorker

MOST = 500
"""Repositories, or refs, of one page."""
DEFAULT = 100
COUNTED_FOR = 0.5
"""Seconds for which the numbers of all repositories by state hold: many pages may ask at once."""


AnyMirror: TypeAlias = MirrorWorker | DistantMirror
"""A mirror that is here, or at another node of a fleet."""


class Found(msgspec.Struct, frozen=True):
    """A page: its mirrors by name, the cursor of the next page, and how many of all that fit are in each state."""

    mirrors: list[AnyMirror]
    next: str | None
    states: dict[State, int]


class Listing:
    """Finds pages. The number of all repositories in each state is counted anew only after a while.

    ``all_mirrors`` returns the mirrors, ``clock`` is the reactor.
    """

    def __init__(self, all_mirrors: Callable[[], Iterable[AnyMirror]], clock: Timers) -> None:
        self._all_mirrors = all_mirrors
        self._clock = clock
        self._counts: Counter[State] = Counter()
        self._counted_at = -COUNTED_FOR

    def find(self, text: str, state: str | None, limit: int, cursor: str) -> Found:
        """Return the page of at most ``limit`` repositories behind ``cursor``, in whose name is ``text``."""
        mirrors = {each.managed.repo.key: each for each in self._all_mirrors()}
        text = text.lower()
        fitting = [key for key in mirrors if text in key] if text else mirrors.keys()
        behind = [key for key in fitting if key > cursor] if cursor else fitting
        if state is not None:
            behind = [key for key in behind if mirrors[key].presumed_state == state]
        page = nsmallest(limit + 1, behind)
        more = len(page) > limit
        page = page[:limit]
        counts = self._count(mirrors[key] for key in fitting) if text else self._count_all(mirrors.values())
        states = {each: counts[each] for each in STATES}
        return Found([mirrors[key] for key in page], page[-1] if more else None, states)

    def _count_all(self, mirrors: Iterable[AnyMirror]) -> Counter[State]:
        if self._clock.seconds() - self._counted_at >= COUNTED_FOR:
            self._counts, self._counted_at = self._count(mirrors), self._clock.seconds()
        return self._counts

    def _count(self, mirrors: Iterable[AnyMirror]) -> Counter[State]:
        return Counter(each.presumed_state for each in mirrors)


def page_limit(text: str | None) -> int:
    """Return the number of rows of a page that a query asks for. Raises ValueError."""
    if text is None:
        return DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST):
        raise ValueError(f"limit: expected a number from 1 to {MOST}")
    return int(text)
