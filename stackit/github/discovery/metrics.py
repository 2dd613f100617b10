"""The metrics of discovery."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.github.discovery.events import USES, Use
from stackit.github.discovery.source import RESULTS, Source


class DiscoveryMetrics(Collector):
    """What a scrape reads of the sources, and of the events that had them read.

    A node of a fleet that does not lead reads no listing: ``is_running`` returns False there.
    """

    def __init__(
        self, sources: Callable[[], Iterable[Source]], uses: Mapping[Use, int], is_running: Callable[[], bool]
    ) -> None:
        self._is_running = is_running
        self._sources = sources
        self._uses = uses

    def collect(self) -> Iterable[Metric]:
        failing = GaugeMetricFamily(
            "stackit_discovery_failing", "Listings that cannot be read as they should be.", labels=["source"]
        )
        held = GaugeMetricFamily(
            "stackit_discovery_held",
            "Listings whose repositories wait for a person to accept that they vanished.",
            labels=["source"],
        )
        succeeded = GaugeMetricFamily(
            "stackit_discovery_success_timestamp_seconds",
            "When all listings were last complete, in seconds since the epoch; at first the start.",
            labels=["source"],
        )
        interval = GaugeMetricFamily(
            "stackit_discovery_interval_seconds", "How often listings are read, 0 for never.", labels=["source"]
        )
        readings = CounterMetricFamily(
            "stackit_discovery_readings", "Readings of listings, by how they ended.", labels=["source", "result"]
        )
        for source in self._sources():
            name, standings = [source.name], source.standings.values()
            failing.add_metric(name, sum(each.failures > 0 for each in standings) + (source.problem is not None))
            held.add_metric(name, sum(each.report.held is not None for each in standings))
            succeeded.add_metric(name, source.succeeded_at)
            interval.add_metric(name, source.interval if self._is_running() else 0.0)
            for result in RESULTS:
                readings.add_metric([source.name, result], source.results[result])
        events = CounterMetricFamily(
            "stackit_discovery_events",
            "Events that may tell of a change of repositories: those that had a listing read, and others.",
            labels=["use"],
        )
        for use in USES:
            events.add_metric([use], self._uses[use])
        yield from (failing, held, succeeded, interval, readings, events)
