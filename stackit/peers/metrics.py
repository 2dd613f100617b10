"""The metrics of what nodes ask each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector


class PeerMetrics(Collector):
    """Requests to other nodes, and gits of other nodes, by what became of them."""

    def __init__(self, asked: Callable[[], Mapping[str, int]], served: Callable[[], Mapping[str, int]]) -> None:
        """The functions return how many there were since the start, by result."""
        self._asked = asked
        self._served = served

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        for name, text, counts in (
            ("stackit_node_requests", "Requests that other nodes were asked, by result.", self._asked()),
            (
                "stackit_node_gits",
                "Requests of the gits of other nodes, by result.",
                self._served(),
            ),
        ):
            metric = CounterMetricFamily(name, text, labels=["result"])
            for result, count in counts.items():
                metric.add_metric([result], count)
            yield metric
