"""The metrics of deliveries and of their handling, counted from occurrences."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from stackit import App, Occurrence
from stackit.plugins.metrics.tallies import PATH, Tally, Times

_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 3600)


class Counts:
    """Counts occurrences in ``registry``.

    ``app`` is None until stackit is put together: nothing has a time before.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.app: App | None = None
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
            case "backstop":
                if occurrence.error is None and self.app is not None:
                    self._backstop_success.set(self.app.now())

    def _handling(self, occurrence: Occurrence) -> None:
        outcome = "done" if occurrence.name == "handled" else occurrence.name
        self._handlings.add(occurrence.subscriber, outcome)
        if occurrence.seconds is not None:
            self._handling_seconds.add(occurrence.subscriber, occurrence.seconds)
