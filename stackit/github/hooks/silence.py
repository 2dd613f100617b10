"""Webhooks that are silent: the backstop finds pushes of which no delivery told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stackit.api.events import Repo
from stackit.api.occurrences import Occurrence
from stackit.api.repos import Repos
from stackit.github.hooks.faults import Fault, command
from stackit.github.hooks.target import HookTarget

LATE = 60.0
"""Seconds by which a delivery may be later than the backstop's look."""
_HEADS = "refs/heads/"


class Silence:
    """Knows of each managed repository when a delivery told of a push, and when the backstop found one that none told.

    Only branches count: GitHub sends nothing of some other refs, and nothing for more than three tags at once.
    """

    def __init__(self, repos: Repos, seconds: Callable[[], float], sync_interval: float) -> None:
        """``seconds`` never run backwards; ``sync_interval`` is the backstop's."""
        self._repos = repos
        self._seconds = seconds
        self._window = sync_interval + LATE
        self._pushes: dict[str, float] = {}
        self._finds: dict[str, float] = {}

    def observe(self, occurrence: Occurrence) -> None:
        """Take note of deliveries, and of what the backstop found."""
        repo = occurrence.repo
        if repo is None or self._repos.get(repo) is None:
            return
        if occurrence.name in ("accepted", "duplicate"):
            if occurrence.event == "push" and occurrence.via is None:
                self._pushes[repo.key] = self._seconds()
                self._finds.pop(repo.key, None)
        elif is_find(occurrence):
            self.found(repo)

    def found(self, repo: Repo) -> None:
        """Take note of a push that the backstop found, perhaps at another node."""
        pushed = self._pushes.get(repo.key)
        if pushed is None or self._seconds() - pushed > self._window:
            self._finds.setdefault(repo.key, self._seconds())

    def told(self, repo: Repo) -> None:
        """Take note that a delivery told of the push after all."""
        self._finds.pop(repo.key, None)

    @property
    def window(self) -> float:
        """Return for how many seconds before a find a delivery counts for it."""
        return self._window

    def silent(self, late: float = LATE) -> list[Repo]:
        """Return the repositories with a push that no delivery told of, ``late`` seconds after it was found."""
        now = self._seconds()
        found = [Repo.parse(key) for key, at in self._finds.items() if now - at >= late]
        managed = [self._repos.get(each) for each in found]
        return [each.repo for each in managed if each is not None]


def faults_by_target(
    silent: Sequence[Repo], targets: Mapping[str, HookTarget], app_of: Callable[[Repo], str | None]
) -> dict[str, Fault]:
    """Return the fault of each webhook that should have told of pushes, by the key of its target.

    ``targets`` are those that are watched. A repository's own webhook counts first, then its owner's, then its App's.
    """
    repos: dict[str, list[Repo]] = {}
    for repo in silent:
        app = app_of(repo)
        scopes = (f"repo:{repo.key}", f"owner:{repo.owner.lower()}", f"app:{(app or '').lower()}")
        key = next((each for each in scopes if each in targets), None)
        if key is not None:
            repos.setdefault(key, []).append(repo)
    return {key: _fault(targets[key], found) for key, found in repos.items()}


def _fault(target: HookTarget, repos: Sequence[Repo]) -> Fault:
    more = f" and {len(repos) - 1} more" if len(repos) > 1 else ""
    return Fault(
        "silent",
        f"is silent: the backstop found pushes in {repos[0]}{more}, of which no delivery told; is it switched off, or "
        "does a proxy refuse GitHub?",
        f"look at Recent Deliveries at GitHub, then {command('ping', target)}",
    )


def is_find(occurrence: Occurrence) -> bool:
    """Return whether the backstop found a push."""
    if occurrence.name != "refs_changed" or occurrence.cause != "backstop":
        return False
    return any(each.ref.startswith(_HEADS) for each in occurrence.changes or ())
