"""The mirror's metrics, counted from the occurrences that are about mirrors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.registry import Collector

from stackit import App, Occurrence, Repo
from stackit.plugins.mirror.sync.status import STATES

_CAUSES = frozenset({"push", "backstop", "manual", "start"})
_OUTCOMES = frozenset({"changed", "unchanged", "timeout", "failed"})
_KINDS = frozenset({"created", "updated", "deleted"})
_MOST_REASONS = 32
_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 3600)


class MirrorMetrics:
    """Counts occurrences.

    ``app`` is None until the service is made: nothing has a time or a managed repository before.
    """

    def __init__(self) -> None:
        self.app: App | None = None
        self._shown: dict[Repo, str] = {}
        self._incomplete: set[Repo] = set()
        self._reasons: set[str] = set()
        self._syncs = Counter("stackit_mirror_syncs_total", "Looks at a remote.", ["cause", "outcome"], registry=None)
        self._sync_seconds = Histogram(
            "stackit_mirror_sync_seconds", "How long a look at a remote took.", buckets=_SECONDS, registry=None
        )
        self._visible_seconds = Histogram(
            "stackit_push_visible_seconds",
            "From a push received to its commit visible in the mirror.",
            buckets=_SECONDS,
            registry=None,
        )
        self._fallbacks = Counter(
            "stackit_mirror_fallbacks_total",
            "Pushes that the fast fetch could not bring, so that git fetch did.",
            ["reason"],
            registry=None,
        )
        self._verified = Gauge(
            "stackit_mirror_verified_timestamp_seconds",
            "When the mirror was last known to equal its remote.",
            ["repo"],
            registry=None,
        )
        self._states = Gauge(
            "stackit_mirror_state", "1 for the state that the mirror is in.", ["repo", "state"], registry=None
        )
        self._missing = Gauge(
            "stackit_mirror_missing_refs", "Refs of the remote that the mirror cannot hold.", ["repo"], registry=None
        )
        self._healed = Counter("stackit_mirror_healed_total", "Repairs of mirrors.", registry=None)
        self._ref_changes = Counter(
            "stackit_mirror_ref_changes_total", "Refs of mirrors that moved.", ["kind"], registry=None
        )
        self._found = Counter("stackit_backstop_found_total", "Ref changes that no delivery announced.", registry=None)
        self._count: dict[str, Callable[[Occurrence], None]] = {
            "synced": self._synced,
            "fallback": self._fell_back,
            "visible": self._became_visible,
            "healed": lambda _: self._healed.inc(),
            "refs_changed": self._changed,
        }

    def collectors(self) -> Sequence[Collector]:
        """Every metric."""
        return (
            self._syncs,
            self._sync_seconds,
            self._visible_seconds,
            self._fallbacks,
            self._verified,
            self._states,
            self._missing,
            self._healed,
            self._ref_changes,
            self._found,
        )

    def observe(self, occurrence: Occurrence) -> None:
        """Count an occurrence, if it is about mirrors."""
        count = self._count.get(occurrence.name)
        if count is not None:
            count(occurrence)

    def _synced(self, occurrence: Occurrence) -> None:
        cause, outcome = _one_of(_CAUSES, occurrence.cause), _one_of(_OUTCOMES, occurrence.outcome)
        self._syncs.labels(cause, outcome).inc()
        if occurrence.seconds is not None:
            self._sync_seconds.observe(occurrence.seconds)
        managed = self.app.repos.get(occurrence.repo) if self.app is not None and occurrence.repo is not None else None
        if self.app is None or managed is None:
            return
        # A push fetches its own ref, and compares no other.
        if occurrence.error is None and occurrence.cause != "push":
            self._verified.labels(str(managed.repo)).set(self.app.now())
        if occurrence.missing or managed.repo in self._incomplete:
            self._incomplete.add(managed.repo)
            self._missing.labels(str(managed.repo)).set(occurrence.missing or 0)
        if occurrence.state is None or self._shown.get(managed.repo) == occurrence.state:
            return  # the usual case: thousands of mirrors stay in step
        self._shown[managed.repo] = occurrence.state
        for state in STATES:
            self._states.labels(str(managed.repo), state).set(state == occurrence.state)

    def _fell_back(self, occurrence: Occurrence) -> None:
        if occurrence.reason is not None and len(self._reasons) < _MOST_REASONS:
            self._reasons.add(occurrence.reason)
        self._fallbacks.labels(_one_of(self._reasons, occurrence.reason)).inc()

    def _became_visible(self, occurrence: Occurrence) -> None:
        if occurrence.seconds is not None:
            self._visible_seconds.observe(occurrence.seconds)

    def _changed(self, occurrence: Occurrence) -> None:
        changes = occurrence.changes or ()
        for change in changes:
            self._ref_changes.labels(_one_of(_KINDS, change.kind)).inc()
        if occurrence.cause == "backstop" and occurrence.delivery is None:
            self._found.inc(len(changes))


def _one_of(known: frozenset[str] | set[str], value: str | None) -> str:
    """A label: any plugin may observe an occurrence with any value, and must not make ever more series by it."""
    return value if value is not None and value in known else "other"
