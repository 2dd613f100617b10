"""The metrics of the journal in PostgreSQL: how a node writes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class WriterReadings(Protocol):
    """What is read of a writer."""

    written: int
    commits: int
    commit_seconds: float

    @property
    def waiting(self) -> int:
        """Return how many writes are in hand or wait."""


class WriterMetrics(Collector):
    """The commits of a node, the writes in them, the time that they took, and what waits for one."""

    def __init__(self, writer: WriterReadings) -> None:
        self._writer = writer

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        writer = self._writer
        yield CounterMetricFamily("stackit_database_commits", "Commits of this node.", value=writer.commits)
        yield CounterMetricFamily("stackit_database_writes", "Writes in these commits.", value=writer.written)
        yield CounterMetricFamily(
            "stackit_database_commit_seconds", "Seconds that these commits took.", value=writer.commit_seconds
        )
        yield GaugeMetricFamily(
            "stackit_database_writes_waiting", "Writes in hand, or that wait for a commit.", value=writer.waiting
        )
