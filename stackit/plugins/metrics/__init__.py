"""Metrics for Prometheus, at ``/metrics`` on the admin side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
)

from stackit import AdminRequest, App, Occurrence, Response, Route, hookimpl
from stackit.plugins.metrics.counts import Counts
from stackit.plugins.metrics.exposition import joined, text_of
from stackit.plugins.metrics.plugin_collectors import PluginMetrics
from stackit.plugins.metrics.readings import Readings


class Metrics:
    """Counts occurrences in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counts = Counts(self._registry)

    @hookimpl
    def stackit_routes(self, app: App) -> Sequence[Route]:
        self._counts.app = app
        Info("stackit", "The running stackit.", registry=self._registry).info({"version": app.version})
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(Readings(app))
        plugins = PluginMetrics(app, self._registry)

        async def scrape(request: AdminRequest) -> Response:  # noqa: ARG001 - every handler takes the request
            self._counts.show_subscribers(app.pending())
            self._counts.show_secrets(secret for _, secret in app.vitals().secrets)
            body = await joined(self._pieces(plugins), app.reactor)
            return Response(body=body, content_type=CONTENT_TYPE_LATEST)

        summary = "Show the metrics, as Prometheus reads them."
        kind = CONTENT_TYPE_LATEST
        return [Route("GET", "/metrics", scrape, query=(), summary=summary, returns=str, content_type=kind)]

    def _pieces(self, plugins: PluginMetrics) -> Iterator[bytes]:
        for family in self._registry.collect():
            yield text_of(family)
        yield from plugins.pieces()

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        self._counts.observe(occurrence)
