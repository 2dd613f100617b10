"""What came of the events that each subscriber was handed since the start."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from stackit.api.hookimpl import hookimpl
from stackit.api.occurrences import Occurrence

_OUTCOMES = frozenset({"handled", "failed", "dead"})


class Tally:
    """The outcomes of one subscriber. ``failed`` counts every attempt that failed, ``seconds`` is the sum of all."""

    __slots__ = ("failed", "handled", "last_error", "last_error_at", "longest", "seconds")

    def __init__(self) -> None:
        self.handled = 0
        self.failed = 0
        self.seconds = 0.0
        self.longest: float | None = None
        self.last_error: str | None = None
        self.last_error_at: float | None = None

    @property
    def mean(self) -> float | None:
        """The mean seconds of an attempt; None before the first."""
        attempts = self.handled + self.failed
        return self.seconds / attempts if attempts else None


class Tallies:
    """An observer of handlings, which keeps one ``Tally`` for each subscriber, by its name for people."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` is the wall clock."""
        self._now = now
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        """Count an outcome."""
        if occurrence.name not in _OUTCOMES or occurrence.subscriber is None:
            return
        tally = self._tallies[occurrence.subscriber]
        seconds = occurrence.seconds or 0.0
        tally.seconds += seconds
        if tally.longest is None or seconds > tally.longest:
            tally.longest = seconds
        if occurrence.name == "handled":
            tally.handled += 1
        else:
            tally.failed += 1
            tally.last_error = occurrence.error
            tally.last_error_at = self._now()

    def of(self, subscriber: str) -> Tally:
        """Return the tally of a subscriber."""
        return self._tallies.get(subscriber) or Tally()
