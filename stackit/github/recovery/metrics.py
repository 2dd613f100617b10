"""The metrics of recovery, read from its hooks at a scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.api.github import API_REASONS
from stackit.github.recovery.hook import HookRecovery
from stackit.github.recovery.records import HookState

KINDS = (*API_REASONS, "journal", "bug")
"""Why missed deliveries could not be looked for."""


class RecoveryMetrics(Collector):
    """Readings of ``hooks``, which are there by name, and counts of what failed.

    Every series of a hook begins at 0. While there is no hook, each metric has the series of the hook "", so that rules
    find it.
    """

    def __init__(self, hooks: Mapping[str, HookRecovery], now: Callable[[], float]) -> None:
        self._hooks = hooks
        self._now = now
        self._failures: Counter[tuple[str, str]] = Counter()
        self._succeeded_at: dict[str, float] = {}

    def failed(self, hook: str, kind: str) -> None:
        """Count a failure."""
        self._failures[hook, kind] += 1

    def succeeded(self, hook: str) -> None:
        """Note that the list of a hook was read, and all that was missed is taken."""
        self._succeeded_at[hook] = self._now()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        recovered = CounterMetricFamily(
            "stackit_github_deliveries_recovered",
            "Deliveries that were missed, and taken from GitHub's list.",
            labels=["hook"],
        )
        lost = CounterMetricFamily(
            "stackit_github_deliveries_lost_seconds",
            "Time whose deliveries may be lost: GitHub's list did not reach back to it any more.",
            labels=["hook"],
        )
        failures = CounterMetricFamily(
            "stackit_github_recovery_failures",
            "Looks for missed deliveries that failed.",
            labels=["hook", "reason"],
        )
        left = GaugeMetricFamily(
            "stackit_github_deliveries_missed", "Deliveries that are still to be taken.", labels=["hook"]
        )
        at = GaugeMetricFamily(
            "stackit_github_recovery_last_success_timestamp_seconds",
            "When the list of a hook was last read, and all that was missed was taken; 0 before.",
            labels=["hook"],
        )
        begin = GaugeMetricFamily(
            "stackit_github_lost_from_timestamp_seconds",
            "When the last time begins whose deliveries may be lost, until a person says that they know; 0 for none.",
            labels=["hook"],
        )
        end = GaugeMetricFamily("stackit_github_lost_until_timestamp_seconds", "When it ends.", labels=["hook"])
        readings = [(name, hook.recovered, hook.left, hook.state) for name, hook in self._hooks.items()]
        for name, taken, to_take, state in readings or [("", 0, 0, HookState())]:
            recovered.add_metric([name], taken)
            lost.add_metric([name], state.lost_seconds)
            for kind in KINDS:
                failures.add_metric([name, kind], self._failures[name, kind])
            left.add_metric([name], to_take)
            at.add_metric([name], self._succeeded_at.get(name, 0.0))
            unknown = [each for each in state.lost if each.acknowledged_at is None]
            begin.add_metric([name], unknown[-1].begin if unknown else 0.0)
            end.add_metric([name], unknown[-1].end if unknown else 0.0)
        yield from (recovered, lost, failures, left, at, begin, end)
