"""The mirror's metrics, counted from the occurrences that are about mirrors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.registry import Collector

from stackit import Occurrence
from stackit.plugins.mirror.fleet.gauges import CopyGauges
from stackit.plugins.mirror.repo_gauges import RepoGauges
from stackit.plugins.mirror.sync.fallback import REASONS
from stackit.plugins.mirror.sync.requests import REMOTE_CAUSES

_CAUSES = frozenset(REMOTE_CAUSES)
_OUTCOMES = frozenset({"changed", "unchanged", "timeout", "failed"})
_KINDS = frozenset({"created", "updated", "deleted"})
_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 3600)


class MirrorMetrics:
    """Counts occurrences. Every series whose labels are known is there from the start, at 0."""

    def __init__(self) -> None:
        self.repos = RepoGauges()
        self.copies = CopyGauges()
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
        for cause in REMOTE_CAUSES:
            for outcome in _OUTCOMES:
                self._syncs.labels(cause, outcome)
        for reason in REASONS:
            self._fallbacks.labels(reason)
        for kind in _KINDS:
            self._ref_changes.labels(kind)

    def collectors(self) -> Sequence[Collector]:
        """Return every metric."""
        return (
            self._syncs,
            self._sync_seconds,
            self._visible_seconds,
            self._fallbacks,
            self._healed,
            self._ref_changes,
            self._found,
            self.repos,
            self.copies,
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
        self.repos.synced(occurrence)

    def _fell_back(self, occurrence: Occurrence) -> None:
        self._fallbacks.labels(_one_of(REASONS, occurrence.reason)).inc()

    def _became_visible(self, occurrence: Occurrence) -> None:
        if occurrence.seconds is not None:
            self._visible_seconds.observe(occurrence.seconds)

    def _changed(self, occurrence: Occurrence) -> None:
        changes = occurrence.changes or ()
        for change in changes:
            self._ref_changes.labels(_one_of(_KINDS, change.kind)).inc()
        if occurrence.cause == "backstop" and occurrence.delivery is None:
            self._found.inc(len(changes))


def _one_of(known: frozenset[str], value: str | None) -> str:
    """Return the value of a label. Plugins may observe any value, which must not make more and more series."""
    return value if value is not None and value in known else "other"
