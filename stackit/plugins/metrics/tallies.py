"""Counters and histograms for the hot path: a lookup and an addition each; metrics are made of them at a scrape.

The counters of prometheus_client take a lock and several calls for each addition, so that threads and processes may
share them. stackit observes in one thread.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

MOST_VALUES = 100
"""Values that a label may have, beside ``other``."""

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}", re.ASCII)
PATH = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,4096}")
"""The path of a file that the configuration names, which no stranger chooses."""

Labels = tuple[str | None, ...]


class Bounds:
    """Makes labels from values that strangers may choose, without ever more series.

    A value is kept if it matches ``allowed``, and only so many are; the others become ``other``.
    """

    def __init__(self, allowed: re.Pattern[str] = _LABEL) -> None:
        self._allowed = allowed
        self._seen: dict[int, set[str]] = {}

    def labels(self, values: Labels) -> tuple[str, ...]:
        """Return ``values`` as labels."""
        return tuple(self._label(place, value) for place, value in enumerate(values))

    def _label(self, place: int, value: str | None) -> str:
        seen = self._seen.setdefault(place, set())
        if value in seen:
            return value
        if value is None or not self._allowed.fullmatch(value) or len(seen) >= MOST_VALUES:
            return "other"
        seen.add(value)
        return value


class Tally(Collector):
    """A counter with labels, whose values match ``allowed``."""

    def __init__(
        self,
        name: str,
        text: str,
        names: Sequence[str],
        registry: CollectorRegistry,
        allowed: re.Pattern[str] = _LABEL,
    ) -> None:
        self._about = (name, text)
        self._names = names
        self._bounds = Bounds(allowed)
        self._counts: dict[Labels, int] = {}
        registry.register(self)

    def add(self, *values: str | None, count: int = 1) -> None:
        """Add ``count``; 0 makes the series appear."""
        if values not in self._counts:
            values = self._bounds.labels(values)
            self._counts.setdefault(values, 0)
        self._counts[values] += count

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for labels, count in self._counts.items():
            family.add_metric([str(each) for each in labels], count)
        return [family]

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(*self._about, labels=self._names)


class Times(Collector):
    """A histogram of seconds, with one label."""

    def __init__(self, name: str, text: str, label: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._about = (name, text)
        self._label = label
        self._upper = tuple(bounds)
        self._bounds = Bounds()
        self._counts: dict[str | None, list[int]] = {}
        self._sums: dict[str | None, float] = {}
        registry.register(self)

    def begin(self, value: str | None) -> str | None:
        """Let the series of a value appear, and return the value that it has there."""
        if value not in self._counts:
            (value,) = self._bounds.labels((value,))
            self._counts.setdefault(value, [0] * (len(self._upper) + 1))
            self._sums.setdefault(value, 0.0)
        return value

    def add(self, value: str | None, seconds: float) -> None:
        """Add a time. A bucket includes its upper bound."""
        if value not in self._counts:
            value = self.begin(value)
        self._counts[value][bisect_left(self._upper, seconds)] += 1
        self._sums[value] += seconds

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        uppers = [*(str(float(each)) for each in self._upper), "+Inf"]
        for value, counts in self._counts.items():
            buckets = list(zip(uppers, accumulate(counts), strict=True))
            family.add_metric([str(value)], buckets, self._sums[value])
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(*self._about, labels=[self._label])
