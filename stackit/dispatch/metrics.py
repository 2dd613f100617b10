"""The metric of paused handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class PauseMetrics(Collector):
    """Which subscribers are paused, at the moment of a scrape."""

    def __init__(self, states: Callable[[], Mapping[str, bool]]) -> None:
        """``states`` returns of each subscriber whether it is paused."""
        self._states = states

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        paused = GaugeMetricFamily(
            "stackit_handler_paused", "1 while a person has paused the subscriber.", labels=["subscriber"]
        )
        for subscriber, is_paused in self._states().items():
            paused.add_metric([subscriber], is_paused)
        yield paused
