"""Every metric, and what of an occurrence it counts."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from stackit import App, Occurrence, Repo
from stackit.plugins.metrics.tallies import PATH, Tally, Times

_STATES = ("in_step", "behind", "cloning", "failing", "quarantined")
_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 3600)


class Counts:
    """Counts occurrences in ``registry``.

    ``app`` is None until stackit is put together: nothing has a time or a managed repository before.
    """

    __slots__ = (
        "_backstop_success",
        "_deliveries",
        "_fallbacks",
        "_found",
        "_handling_seconds",
        "_handlings",
        "_healed",
        "_incomplete",
        "_missing",
        "_ref_changes",
        "_refused",
        "_replayed",
        "_shown",
        "_states",
        "_sync_seconds",
        "_syncs",
        "_verified",
        "_verified_by",
        "_visible_seconds",
        "app",
    )

    def __init__(self, registry: CollectorRegistry) -> None:
        self.app: App | None = None
        self._shown: dict[Repo, str] = {}
        self._incomplete: set[Repo] = set()
        self._refused = Tally("stackit_requests_refused", "Public requests turned away.", ["reason"], registry)
        self._deliveries = Tally("stackit_deliveries", "Verified deliveries.", ["event", "outcome"], registry)
        self._verified_by = Tally(
            "stackit_deliveries_verified",
            "Deliveries by the file, or the variable, of the secret by which they verified.",
            ["secret"],
            registry,
            PATH,
        )
        self._replayed = Counter(
            "stackit_deliveries_replayed_total",
            "Signed bodies that came back under a new delivery id.",
            registry=registry,
        )
        self._handlings = Tally(
            "stackit_handlings",
            "Events given to a subscriber: done, failed (tried again), dead.",
            ["subscriber", "outcome"],
            registry,
        )
        self._handling_seconds = Times(
            "stackit_handling_seconds", "How long a subscriber took over an event.", "subscriber", _SECONDS, registry
        )
        self._syncs = Tally("stackit_mirror_syncs", "Looks at a remote.", ["cause", "outcome"], registry)
        self._sync_seconds = Histogram(
            "stackit_mirror_sync_seconds", "How long a look at a remote took.", buckets=_SECONDS, registry=registry
        )
        self._visible_seconds = Histogram(
            "stackit_push_visible_seconds",
            "From a push received to its commit visible in the mirror.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._fallbacks = Tally(
            "stackit_mirror_fallbacks",
            "Pushes that the fast fetch could not bring, so that git fetch did.",
            ["reason"],
            registry,
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
        self._missing = Gauge(
            "stackit_mirror_missing_refs",
            "Refs of the remote that the mirror cannot hold.",
            ["repo"],
            registry=registry,
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

    def awaited(self, subscribers: Iterable[str]) -> None:
        """A series that is there from the start, at 0, lets increase() see the first dead letter."""
        for subscriber in subscribers:
            for outcome in ("done", "failed", "dead"):
                self._handlings.add(subscriber, outcome, count=0)

    def observe(self, occurrence: Occurrence) -> None:
        """Count one."""
        match occurrence.name:
            case "refused":
                self._refused.add(occurrence.reason)
                if occurrence.verified_by is not None:
                    self._verified_by.add(occurrence.verified_by)
            case "accepted" | "duplicate":
                if occurrence.verified_by is not None:
                    self._verified_by.add(occurrence.verified_by)
                outcome = "duplicate" if occurrence.name == "duplicate" else occurrence.outcome
                self._deliveries.add(occurrence.event, outcome)
            case "replayed":
                self._replayed.inc()
            case "handled" | "failed" | "dead":
                self._handling(occurrence)
            case "synced":
                self._synced(occurrence)
            case "fallback":
                self._fallbacks.add(occurrence.reason)
            case "visible":
                if occurrence.seconds is not None:
                    self._visible_seconds.observe(occurrence.seconds)
            case "healed":
                self._healed.inc()
            case "refs_changed":
                self._changed(occurrence)
            case "backstop":
                if occurrence.error is None and self.app is not None:
                    self._backstop_success.set(self.app.now())

    def _handling(self, occurrence: Occurrence) -> None:
        outcome = "done" if occurrence.name == "handled" else occurrence.name
        self._handlings.add(occurrence.subscriber, outcome)
        if occurrence.seconds is not None:
            self._handling_seconds.add(occurrence.subscriber, occurrence.seconds)

    def _synced(self, occurrence: Occurrence) -> None:
        self._syncs.add(occurrence.cause, occurrence.outcome)
        if occurrence.seconds is not None:
            self._sync_seconds.observe(occurrence.seconds)
        if occurrence.repo is None or self.app is None:
            return
        managed = self.app.repos.get(occurrence.repo)
        if managed is None:
            return
        if (
            occurrence.error is None and occurrence.cause != "push"
        ):  # a push fetches what it is about, and compares no more
            self._verified.labels(str(managed.repo)).set(self.app.now())
        if occurrence.missing or managed.repo in self._incomplete:
            self._incomplete.add(managed.repo)
            self._missing.labels(str(managed.repo)).set(occurrence.missing or 0)
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
