"""The metric of the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class RegistryMetrics(Collector):
    """The number of repositories by state, at the moment of a scrape."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """``counts`` returns the number of repositories in each state."""
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        repos = GaugeMetricFamily("stackit_repos", "Repositories by what becomes of them.", labels=["state"])
        for state, count in self._counts().items():
            repos.add_metric([state], count)
        yield repos
