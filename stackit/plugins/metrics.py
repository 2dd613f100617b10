"""What stackit did, counted for Prometheus at ``/metrics`` on the admin side."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit import AdminRequest, App, Occurrence, Repo, Response, Route, hookimpl

_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}", re.ASCII)
_STATES = ("in_step", "behind", "cloning", "failing", "quarantined")
_MOST_VALUES = 100
_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 3600)


class Metrics:
    """Counts occurrences in a registry of its own."""

    def __init__(self) -> None:
        self._app: App | None = None
        self._shown: dict[Repo, str] = {}
        self._registry = registry = CollectorRegistry()
        self._refused = _Series(
            Counter("stackit_requests_refused_total", "Public requests turned away.", ["reason"], registry=registry)
        )
        self._deliveries = _Series(
            Counter("stackit_deliveries_total", "Verified deliveries.", ["event", "outcome"], registry=registry)
        )
        self._replayed = Counter(
            "stackit_deliveries_replayed_total",
            "Signed bodies that came back under a new delivery id.",
            registry=registry,
        )
        self._handlings = _Series(
            Counter(
                "stackit_handlings_total",
                "Events given to a subscriber: done, failed (tried again), dead.",
                ["subscriber", "outcome"],
                registry=registry,
            )
        )
        self._handling_seconds = _Series(
            Histogram(
                "stackit_handling_seconds",
                "How long a subscriber took over an event.",
                ["subscriber"],
                buckets=_SECONDS,
                registry=registry,
            )
        )
        self._syncs = _Series(
            Counter("stackit_mirror_syncs_total", "Looks at a remote.", ["cause", "outcome"], registry=registry)
        )
        self._sync_seconds = Histogram(
            "stackit_mirror_sync_seconds", "How long a look at a remote took.", buckets=_SECONDS, registry=registry
        )
        self._visible_seconds = Histogram(
            "stackit_push_visible_seconds",
            "From a push received to its commit visible in the mirror.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._detours = _Series(
            Counter(
                "stackit_mirror_detours_total",
                "Pushes that could not take the fast road and went by git fetch.",
                ["reason"],
                registry=registry,
            )
        )
        self._verified = Gauge(
            "stackit_mirror_verified_timestamp_seconds",
            "When the mirror was last known to equal its remote.",
            ["repo"],
            registry=registry,
        )
        self._states = Gauge(
            "stackit_mirror_state", "1 for the state that the mirror is in.", ["repo", "state"], registry=registry
        )
        self._healed = Counter("stackit_mirror_healed_total", "Repairs of mirrors.", registry=registry)
        self._ref_changes = Counter(
            "stackit_mirror_ref_changes_total", "Refs of mirrors that moved.", ["kind"], registry=registry
        )
        self._found = Counter(
            "stackit_backstop_found_total", "Ref changes that no delivery announced.", registry=registry
        )
        self._backstop_success = Gauge(
            "stackit_backstop_last_success_timestamp_seconds",
            "When a plugin last ended its round for the backstop without an error.",
            registry=registry,
        )

    @hookimpl
    def stackit_routes(self, app: App) -> Sequence[Route]:
        self._app = app
        Info("stackit", "The running stackit.", registry=self._registry).info({"version": app.version})
        self._registry.register(_Pending(app))
        return [Route("GET", "/metrics", self._scrape)]

    def _scrape(self, request: AdminRequest) -> Response:  # noqa: ARG002 - every handler takes the request
        # A series that is there from the start, at 0, lets increase() see the first dead letter.
        for subscriber in self._app.pending() if self._app is not None else ():
            for outcome in ("done", "failed", "dead"):
                self._handlings.of(subscriber, outcome)
        return Response(body=generate_latest(self._registry), content_type=CONTENT_TYPE_LATEST)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        match occurrence.name:
            case "refused":
                self._refused.of(occurrence.reason).inc()
            case "accepted" | "duplicate":
                outcome = "duplicate" if occurrence.name == "duplicate" else occurrence.outcome
                self._deliveries.of(occurrence.event, outcome).inc()
            case "replayed":
                self._replayed.inc()
            case "handled" | "failed" | "dead":
                self._handling(occurrence)
            case "synced":
                self._synced(occurrence)
            case "detour":
                self._detours.of(occurrence.reason).inc()
            case "visible":
                if occurrence.seconds is not None:
                    self._visible_seconds.observe(occurrence.seconds)
            case "healed":
                self._healed.inc()
            case "refs_changed":
                self._changed(occurrence)
            case "backstop":
                if occurrence.error is None and self._app is not None:
                    self._backstop_success.set(self._app.reactor.seconds())

    def _handling(self, occurrence: Occurrence) -> None:
        outcome = "done" if occurrence.name == "handled" else occurrence.name
        self._handlings.of(occurrence.subscriber, outcome).inc()
        if occurrence.seconds is not None:
            self._handling_seconds.of(occurrence.subscriber).observe(occurrence.seconds)

    def _synced(self, occurrence: Occurrence) -> None:
        self._syncs.of(occurrence.cause, occurrence.outcome).inc()
        if occurrence.seconds is not None:
            self._sync_seconds.observe(occurrence.seconds)
        if occurrence.repo is None or self._app is None:
            return
        managed = self._app.repos.get(occurrence.repo)
        if managed is None:
            return
        if (
            occurrence.error is None and occurrence.cause != "push"
        ):  # a push fetches what it is about, and compares no more
            self._verified.labels(str(managed.repo)).set(self._app.reactor.seconds())
        if occurrence.state is None or self._shown.get(managed.repo) == occurrence.state:
            return  # the usual case: thousands of mirrors stay in step
        self._shown[managed.repo] = occurrence.state
        for state in _STATES:
            self._states.labels(str(managed.repo), state).set(state == occurrence.state)

    def _changed(self, occurrence: Occurrence) -> None:
        changes = occurrence.changes or ()
        for change in changes:
            self._ref_changes.labels(change.kind).inc()
        if occurrence.cause == "backstop" and occurrence.delivery is None:
            self._found.inc(len(changes))


class _Series:
    """The series of a metric, found by values that strangers may choose: they cannot make ever more of them."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._series: dict[tuple[str | None, ...], Any] = {}
        self._seen: defaultdict[int, set[str]] = defaultdict(set)

    def of(self, *values: str | None) -> Any:
        """The series with these values as its labels; what no label may be is ``other``."""
        series = self._series.get(values)
        if series is None:
            labels = tuple(self._label(place, value) for place, value in enumerate(values))
            series = self._metric.labels(*labels)
            if labels == values:
                self._series[labels] = series
        return series

    def _label(self, place: int, value: str | None) -> str:
        seen = self._seen[place]
        if value in seen:
            return value
        if value is None or not _LABEL.fullmatch(value) or len(seen) >= _MOST_VALUES:
            return "other"
        seen.add(value)
        return value


class _Pending(Collector):
    """``stackit_handlings_pending``, read from stackit at each scrape."""

    def __init__(self, app: App) -> None:
        self._app = app

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [self._family()]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = self._family()
        for subscriber, count in self._app.pending().items():
            family.add_metric([subscriber], count)
        return [family]

    def _family(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(
            "stackit_handlings_pending", "Events that a subscriber still has to handle.", labels=["subscriber"]
        )
