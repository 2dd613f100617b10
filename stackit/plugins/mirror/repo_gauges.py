"""The metrics of each managed repository."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit import App, ManagedRepo, Occurrence, Repo
from stackit.plugins.mirror.sync.status import STATES, State

_PART = 250
"""Samples of one part."""


class RepoGauges(Collector):
    """Gauges of each repository that is managed at the moment of a scrape, as rounds have left it.

    In a fleet, each node has those of its own mirrors.

    There are none before ``begin``.
    """

    def __init__(self) -> None:
        self._app: App | None = None
        self._state_of: Callable[[Repo], tuple[State, float]] = lambda _: ("cloning", 0.0)
        self._mirrors: dict[str, _Mirror] = {}

    def begin(self, app: App, state: Callable[[Repo], tuple[State, float]]) -> None:
        """Show the repositories of ``app``.

        ``state`` returns the state that a mirror is in before its first round here, and when it was verified (0.0 for
        never): one that another node had may have been.
        """
        self._app = app
        self._state_of = state

    def move(self, moved: Iterable[tuple[str, str]]) -> None:
        """Give the values of repositories to other keys: old and new ones, all at once."""
        taken = [(new, self._mirrors.pop(old, None)) for old, new in moved]
        self._mirrors.update({new: mirror for new, mirror in taken if mirror is not None})

    def synced(self, occurrence: Occurrence) -> None:
        """Take what a round tells, if its repository is managed."""
        if self._app is None or occurrence.repo is None:
            return
        managed = self._app.repos.get(occurrence.repo)
        if managed is None:
            return
        mirror = self._mirror(managed.repo)
        mirror.has_run = True
        mirror.missing = occurrence.missing or 0
        if occurrence.state is not None:
            mirror.state = occurrence.state
        # A push fetches its own ref, and compares no other.
        if occurrence.error is None and occurrence.cause != "push":
            mirror.verified_at = self._app.fleet_now()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, each in parts."""
        managed = {each.repo.key: each.repo for each in self._here()}
        for key in self._mirrors.keys() - managed.keys():
            del self._mirrors[key]
        repos = managed.values()
        yield from _parts(
            "stackit_mirror_verified_timestamp_seconds",
            "When the mirror was last known to equal its remote, 0 for never since the start.",
            ["repo"],
            (([str(each)], self._mirror(each).verified_at) for each in repos),
        )
        yield from _parts(
            "stackit_mirror_state",
            "1 for the state that the mirror is in.",
            ["repo", "state"],
            (([str(each), state], state == self._mirror(each).state) for each in repos for state in STATES),
        )
        yield from _parts(
            "stackit_mirror_missing_refs",
            "Refs of the remote that the mirror cannot hold.",
            ["repo"],
            (([str(each)], self._mirror(each).missing) for each in repos),
        )

    def _here(self) -> Iterator[ManagedRepo]:
        """Yield the repositories whose mirrors are at this node."""
        if self._app is not None:
            yield from (each for each in self._app.repos if self._app.nodes.is_here(each.repo))

    def _mirror(self, repo: Repo) -> _Mirror:
        mirror = self._mirrors.get(repo.key)
        if mirror is None:
            mirror = self._mirrors[repo.key] = _Mirror()
        if not mirror.has_run:
            mirror.state, mirror.verified_at = self._state_of(repo)
        return mirror


def _parts(
    name: str, text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Iterator[Metric]:
    """Yield a gauge in parts: a scrape lets the reactor have its turn between two of them."""
    part = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        if len(part.samples) == _PART:
            yield part
            part = GaugeMetricFamily(name, text, labels=labels)
        part.add_metric(values, number)
    yield part


class _Mirror:
    """The values of one mirror that the metrics show."""

    __slots__ = ("has_run", "missing", "state", "verified_at")

    def __init__(self) -> None:
        self.has_run = False
        self.state: str = "cloning"
        self.verified_at = 0.0
        self.missing = 0
