"""The metrics of each managed repository."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit import App, Occurrence, Repo
from stackit.plugins.mirror.sync.status import STATES, State


class RepoGauges(Collector):
    """Gauges of each repository that is managed at the moment of a scrape, as rounds have left it.

    There are none before ``begin``.
    """

    def __init__(self) -> None:
        self._app: App | None = None
        self._state_of: Callable[[Repo], State] = lambda _: "cloning"
        self._mirrors: dict[str, _Mirror] = {}

    def begin(self, app: App, state: Callable[[Repo], State]) -> None:
        """Show the repositories of ``app``. ``state`` returns the state that a mirror is in before its first round."""
        self._app = app
        self._state_of = state

    def synced(self, occurrence: Occurrence) -> None:
        """Take what a round tells, if its repository is managed."""
        if self._app is None or occurrence.repo is None:
            return
        managed = self._app.repos.get(occurrence.repo)
        if managed is None:
            return
        mirror = self._mirror(managed.repo)
        mirror.missing = occurrence.missing or 0
        if occurrence.state is not None:
            mirror.state = occurrence.state
        # A push fetches its own ref, and compares no other.
        if occurrence.error is None and occurrence.cause != "push":
            mirror.verified_at = self._app.now()

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        verified = GaugeMetricFamily(
            "stackit_mirror_verified_timestamp_seconds",
            "When the mirror was last known to equal its remote, 0 for never since the start.",
            labels=["repo"],
        )
        states = GaugeMetricFamily(
            "stackit_mirror_state", "1 for the state that the mirror is in.", labels=["repo", "state"]
        )
        missing = GaugeMetricFamily(
            "stackit_mirror_missing_refs", "Refs of the remote that the mirror cannot hold.", labels=["repo"]
        )
        managed = {} if self._app is None else {each.repo.key: each.repo for each in self._app.repos}
        for key in self._mirrors.keys() - managed.keys():
            del self._mirrors[key]
        for repo in managed.values():
            name, mirror = str(repo), self._mirror(repo)
            verified.add_metric([name], mirror.verified_at)
            missing.add_metric([name], mirror.missing)
            for state in STATES:
                states.add_metric([name, state], state == mirror.state)
        return (verified, states, missing)

    def _mirror(self, repo: Repo) -> _Mirror:
        mirror = self._mirrors.get(repo.key)
        if mirror is None:
            mirror = self._mirrors[repo.key] = _Mirror(self._state_of(repo))
        return mirror


class _Mirror:
    """What the metrics show of one mirror."""

    __slots__ = ("missing", "state", "verified_at")

    def __init__(self, state: str) -> None:
        self.state = state
        self.verified_at = 0.0
        self.missing = 0
