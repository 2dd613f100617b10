"""The metrics of deliveries and of their handling, counted from occurrences."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from stackit import OCCURRENCES, App, Occurrence
from stackit.plugins.metrics.tallies import PATH, Tally, Times

_FIRST_DELIVERIES = (
    ("push", "queued"),
    ("push", "unhandled"),
    ("push", "duplicate"),
    ("ping", "ping"),
    (None, "unrecognised"),  # it has no event
)
"""The series of deliveries that begin at 0. A forge has hundreds of other events, most of which never come."""

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
        self._reloads = Tally("stackit_reloads", "Reloads of the configuration: done, refused.", ["outcome"], registry)
        for outcome in ("done", "refused"):
            self._reloads.add(outcome, count=0)
        self._reload_successful = Gauge(
            "stackit_last_reload_successful",
            "0 while the configuration is refused that the last reload read.",
            registry=registry,
        )
        self._reload_successful.set(1)  # stackit has started by it
        self._count: dict[str, Callable[[Occurrence], None]] = {
            "refused": self._refusal,
            "accepted": self._delivery,
            "duplicate": self._delivery,
            "replayed": lambda _: self._replayed.inc(),
            "handled": self._handling,
            "failed": self._handling,
            "dead": self._handling,
            "backstop": self._backstop,
            "reload": self._reload,
        }
        self._others = Tally(
            "stackit_occurrences", "All other occurrences, those of plugins included.", ["occurrence"], registry
        )
        for name in OCCURRENCES.keys() - self._count.keys():
            self._others.add(name, count=0)
        for reason in OCCURRENCES["refused"].values["reason"]:
            self._refused.add(reason, count=0)
        for event, outcome in _FIRST_DELIVERIES:
            self._deliveries.add(event, outcome, count=0)

    def show_subscribers(self, subscribers: Iterable[str]) -> None:
        """Let the series of these subscribers begin at 0, so that ``increase()`` sees the first dead letter, too."""
        for subscriber in subscribers:
            for outcome in ("done", "failed", "dead"):
                self._handlings.add(subscriber, outcome, count=0)
            self._handling_seconds.begin(subscriber)

    def show_secrets(self, secrets: Iterable[str]) -> None:
        """Let the series of these secrets begin at 0."""
        for secret in secrets:
            self._verified_by.add(secret, count=0)

    def observe(self, occurrence: Occurrence) -> None:
        """Count an occurrence: by the metrics of its name, or else by its name alone."""
        count = self._count.get(occurrence.name)
        if count is None:
            self._others.add(occurrence.name)
        else:
            count(occurrence)

    def _refusal(self, occurrence: Occurrence) -> None:
        self._refused.add(occurrence.reason)
        if occurrence.verified_by is not None:
            self._verified_by.add(occurrence.verified_by)

    def _delivery(self, occurrence: Occurrence) -> None:
        if occurrence.verified_by is not None:
            self._verified_by.add(occurrence.verified_by)
        self._deliveries.add(occurrence.event, "duplicate" if occurrence.name == "duplicate" else occurrence.outcome)

    def _handling(self, occurrence: Occurrence) -> None:
        outcome = "done" if occurrence.name == "handled" else occurrence.name
        self._handlings.add(occurrence.subscriber, outcome)
        if occurrence.seconds is not None:
            self._handling_seconds.add(occurrence.subscriber, occurrence.seconds)

    def _reload(self, occurrence: Occurrence) -> None:
        self._reloads.add(occurrence.outcome)
        self._reload_successful.set(occurrence.outcome == "done")

    def _backstop(self, occurrence: Occurrence) -> None:
        if occurrence.error is None and self.app is not None:
            self._backstop_success.set(self.app.fleet_now())
