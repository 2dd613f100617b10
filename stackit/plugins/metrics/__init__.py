"""Metrics for Prometheus, at ``/metrics`` on the admin side."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from stackit import AdminRequest, App, Occurrence, Response, Route, hookimpl
from stackit.plugins.metrics.counts import Counts
from stackit.plugins.metrics.plugin_collectors import PluginMetrics
from stackit.plugins.metrics.readings import Readings


class Metrics:
    """Counts occurrences in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counts = Counts(self._registry)
        self._app: App | None = None
        self._plugins: PluginMetrics | None = None

    @hookimpl
    def stackit_routes(self, app: App) -> Sequence[Route]:
        self._app = self._counts.app = app
        Info("stackit", "The running stackit.", registry=self._registry).info({"version": app.version})
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(Readings(app))
        self._plugins = PluginMetrics(app, self._registry)
        return [Route("GET", "/metrics", self._scrape, query=())]

    def _scrape(self, request: AdminRequest) -> Response:  # noqa: ARG002 - every handler takes the request
        if self._app is not None:
            self._counts.show_subscribers(self._app.pending())
            self._counts.show_secrets(secret for _, secret in self._app.vitals().secrets)
        body = generate_latest(self._registry) + (self._plugins.render() if self._plugins is not None else b"")
        return Response(body=body, content_type=CONTENT_TYPE_LATEST)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        self._counts.observe(occurrence)
