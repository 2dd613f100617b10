"""The metrics of copies of mirrors that have their home at another node."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.plugins.mirror.fleet.residence import Residence


class CopyGauges(Collector):
    """The number of copies at this node. Without a fleet there is no such metric."""

    def __init__(self) -> None:
        self._residence: Residence | None = None

    def begin(self, residence: Residence | None) -> None:
        """Show the copies of a node; None where there is no fleet."""
        self._residence = residence

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        if self._residence is None:
            return
        gauge = GaugeMetricFamily(
            "stackit_mirror_copies", "Copies of mirrors whose home is another node.", labels=["state"]
        )
        in_step, behind = self._residence.copies.count()
        gauge.add_metric(["in_step"], in_step)
        gauge.add_metric(["behind"], behind)
        yield gauge
