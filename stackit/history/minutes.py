"""Counts by the minute, in fixed memory: deliveries, and durations in buckets from which quantiles are read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import msgspec

MINUTES = 60
"""Minutes that are kept, the one that runs now included."""

_FIRST = 0.001
_GROWTH = 1.05
_MOST = 400
"""Each bucket is 5 % wider than the one before: from a millisecond to three days, any quantile is known to 2.5 %."""


def bucket(seconds: float) -> int:
    """Return the number of the bucket of a duration."""
    if seconds <= _FIRST:
        return 0
    return min(_MOST, math.ceil(math.log(seconds / _FIRST) / math.log(_GROWTH)))


def quantile(buckets: Counter[int], share: float) -> float | None:
    """Return the duration that this share of all durations does not exceed, in seconds; None where there is none."""
    rank = math.ceil(share * buckets.total())
    seen = 0
    for number in sorted(buckets):
        seen += buckets[number]
        if seen >= max(1, rank):
            # The middle of a bucket that goes from one bound to the next.
            return _FIRST * _GROWTH ** (number - 0.5) if number else _FIRST
    return None


class Minute(msgspec.Struct, kw_only=True):
    """One minute. ``number`` is the count of minutes since the epoch, ``durations`` counts visible pushes by bucket."""

    number: int
    deliveries: int = 0
    durations: dict[int, int] = {}


class Minutes:
    """The last minutes, each counted while it runs. Times are the wall clock, which may be set."""

    def __init__(self, kept: Iterable[Minute] = ()) -> None:
        self._minutes = {each.number: each for each in kept}

    def delivery(self, now: float) -> None:
        """Count a delivery."""
        self._at(now).deliveries += 1

    def visible(self, now: float, seconds: float) -> None:
        """Count a push that became visible so many seconds after it was received."""
        durations = self._at(now).durations
        number = bucket(seconds)
        durations[number] = durations.get(number, 0) + 1

    def last(self, now: float) -> list[Minute]:
        """Return the last minutes, oldest first, also those in which nothing came."""
        current = int(now // 60)
        numbers = range(current - MINUTES + 1, current + 1)
        return [self._minutes.get(number) or Minute(number=number) for number in numbers]

    def kept(self, now: float) -> list[Minute]:
        """Return the minutes that are worth keeping: the last ones in which anything came."""
        return [each for each in self.last(now) if each.deliveries or each.durations]

    def _at(self, now: float) -> Minute:
        number = int(now // 60)
        minute = self._minutes.get(number)
        if minute is None:
            self._minutes = {each.number: each for each in self.kept(now)}
            minute = self._minutes[number] = Minute(number=number)
        return minute


def summed(parts: Iterable[Iterable[Minute]]) -> list[Minute]:
    """Return the minutes of several nodes as one list of minutes, in the order of time."""
    found: dict[int, Minute] = {}
    for each in (minute for part in parts for minute in part):
        minute = found.setdefault(each.number, Minute(number=each.number))
        minute.deliveries += each.deliveries
        minute.durations = dict(merged([minute, each]))
    return [found[number] for number in sorted(found)]


def merged(minutes: Iterable[Minute]) -> Counter[int]:
    """Return the durations of all these minutes, by bucket."""
    buckets: Counter[int] = Counter()
    for each in minutes:
        buckets.update(each.durations)
    return buckets
