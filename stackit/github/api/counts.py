"""The metrics of requests to GitHub's API."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.github.api.limits import Limits

MOST_ROUTES = 200
"""Routes that are counted each by itself: a plugin may write names into its paths."""
_USUAL = ("200", "304", "401", "403", "404", "429", "500", "502", "503", "network")
"""Values of ``status`` that a route begins with, at 0."""


class RequestCounts(Collector):
    """Counts requests by route and status, and shows what is left of the limits at the moment of a scrape."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._requests = Counter(
            "stackit_github_requests_total",
            "Requests to GitHub's API; status is that of the answer, or why there is none.",
            ["route", "status"],
            registry=None,
        )
        self._routes: set[str] = set()

    def declare(self, *routes: str) -> None:
        """Have the series of these routes, at 0, before the first request."""
        for route in set(routes) - self._routes:
            self._routes.add(route)
            for status in _USUAL:
                self._requests.labels(route, status)

    def count(self, route: str, status: str) -> None:
        """Count one request; one of a route too many as those of ``other``."""
        if route not in self._routes and len(self._routes) >= MOST_ROUTES:
            route = "other"
        self.declare(route)
        self._requests.labels(route, status).inc()

    def collect(self) -> Iterable[Metric]:
        yield from self._requests.collect()
        left: dict[tuple[str, str], int] = {}
        held: dict[str, float] = {}
        for key, gate in self._limits:
            app = key.partition("/")[0] or key  # the path of a token's file is its key
            held[app] = max(held.get(app, 0.0), gate.longest_hold())
            for resource, allowance in gate.allowances.items():
                left[app, resource] = min(allowance.remaining, left.get((app, resource), allowance.remaining))
        remaining = GaugeMetricFamily(
            "stackit_github_rate_limit_remaining",
            "Requests that GitHub's primary limit leaves; of an App, those of the installation that has the fewest.",
            labels=["app", "resource"],
        )
        for labels, number in left.items():
            remaining.add_metric(labels, number)
        limited = GaugeMetricFamily(
            "stackit_github_limited_seconds",
            "For how long requests of an App, or of an installation of it, are held back by a limit of GitHub.",
            labels=["app"],
        )
        for app, seconds in held.items():
            limited.add_metric([app], seconds)
        yield from (remaining, limited)
