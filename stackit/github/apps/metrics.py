"""The metrics of Apps and their tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.github.apps.errors import STATES

if TYPE_CHECKING:
    from stackit.github.apps.app import GitHubApp

RESULTS = ("made", "failed")


class AppCounts:
    """Counts the tokens that were asked for, by App and by how that ended."""

    def __init__(self) -> None:
        self.mints: Counter[tuple[str, str]] = Counter()

    def minted(self, app: str, result: str) -> None:
        """Count a request for a token: ``made``, or the reason for which there is none."""
        self.mints[app, "made" if result == "made" else "failed"] += 1


class AppMetrics(Collector):
    """What a scrape reads of the Apps."""

    def __init__(self, apps: Callable[[], Iterable[GitHubApp]], counts: AppCounts) -> None:
        self._apps = apps
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        mints = CounterMetricFamily(
            "stackit_github_token_mints", "Tokens of installations that were asked for.", labels=["app", "result"]
        )
        authorized = GaugeMetricFamily(
            "stackit_github_app_authorized", "1 while GitHub takes the key of an App, else 0.", labels=["app"]
        )
        installations = GaugeMetricFamily(
            "stackit_github_installations", "Installations of an App, by their state.", labels=["app", "state"]
        )
        left = GaugeMetricFamily(
            "stackit_github_token_seconds",
            "For how long the token of an installation is valid.",
            labels=["app", "account"],
        )
        for app in self._apps():
            for result in RESULTS:
                mints.add_metric([app.name, result], self._counts.mints[app.name, result])
            authorized.add_metric([app.name], float(app.problem is None))
            states = Counter(each.standing for each in app)
            for state in STATES:
                installations.add_metric([app.name, state], states[state])
            for each in app:
                token = each.token()
                if token.expires_at is not None:
                    left.add_metric([app.name, each.account.login], token.left)
        yield from (mints, authorized, installations, left)
