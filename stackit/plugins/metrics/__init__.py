"""Metrics for Prometheus, at ``/metrics`` on the admin side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit import AdminRequest, App, Occurrence, Response, Route, hookimpl
from stackit.plugins.metrics.counts import Counts
from stackit.plugins.metrics.plugin_collectors import PluginMetrics


class Metrics:
    """Counts occurrences in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counts = Counts(self._registry)
        self._plugins: PluginMetrics | None = None

    @hookimpl
    def stackit_routes(self, app: App) -> Sequence[Route]:
        self._counts.app = app
        Info("stackit", "The running stackit.", registry=self._registry).info({"version": app.version})
        for name, text, read in (
            ("stackit_handlings_pending", "Events that a subscriber still has to handle.", app.pending),
            (
                "stackit_handlings_stalled_seconds",
                "For how long events of a subscriber have been due and none has begun or ended.",
                app.stalled,
            ),
        ):
            self._registry.register(_BySubscriber(name, text, read))
        self._registry.register(_DroppedLines(app))
        self._plugins = PluginMetrics(app, self._registry)
        return [Route("GET", "/metrics", self._scrape)]

    def _scrape(self, request: AdminRequest) -> Response:  # noqa: ARG002 - every handler takes the request
        self._counts.show_subscribers(self._counts.app.pending() if self._counts.app is not None else ())
        body = generate_latest(self._registry) + (self._plugins.render() if self._plugins is not None else b"")
        return Response(body=body, content_type=CONTENT_TYPE_LATEST)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        self._counts.observe(occurrence)


class _BySubscriber(Collector):
    """A gauge with a value for each subscriber, read from stackit at each scrape."""

    def __init__(self, name: str, text: str, read: Callable[[], Mapping[str, float]]) -> None:
        self._about = (name, text)
        self._read = read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = self._family()
        for subscriber, value in self._read().items():
            family.add_metric([subscriber], value)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(*self._about, labels=["subscriber"])


class _DroppedLines(Collector):
    """``stackit_log_lines_dropped_total``, read from stackit at each scrape."""

    def __init__(self, app: App) -> None:
        self._app = app

    def describe(self) -> Iterable[CounterMetricFamily]:
        return [self._family(0)]

    def collect(self) -> Iterable[CounterMetricFamily]:
        return [self._family(self._app.dropped_lines())]

    def _family(self, count: int) -> CounterMetricFamily:
        return CounterMetricFamily("stackit_log_lines_dropped", "Log lines that nobody read.", value=count)
