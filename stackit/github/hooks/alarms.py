"""Alarms of webhooks: each is raised once, and its end is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stackit.github.hooks.faults import FAULTS, Fault, FaultKind
from stackit.github.hooks.target import HookTarget


class HookAlarms(Collector):
    """The faults of every webhook that are known now. ``notice`` is told of each that begins or ends.

    As a collector it counts the webhooks that have each fault.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._raised: dict[str, dict[FaultKind, Fault]] = {}
        self._targets: dict[str, HookTarget] = {}

    def of(self, target: HookTarget) -> tuple[Fault, ...]:
        """Return the faults of a webhook."""
        return tuple(self._raised.get(target.key, {}).values())

    def take(self, target: HookTarget, faults: Iterable[Fault], *, about: Sequence[FaultKind] = FAULTS) -> None:
        """Note the faults of a webhook as they are now. Of kinds that are not in ``about``, nothing is known."""
        before = self._raised.get(target.key, {})
        now = {each.kind: each for each in faults}
        for kind, fault in now.items():
            if kind not in before and kind != "unchecked":
                self._notice(fault.line(target))
        for kind, fault in before.items():
            if kind in about and kind not in now and kind != "unchecked":
                self._notice(f"over: {target.label} {fault.text}")
        kept = {kind: fault for kind, fault in before.items() if kind not in about}
        self._targets[target.key] = target
        self._raised[target.key] = kept | now

    def forget(self, targets: Iterable[HookTarget]) -> None:
        """Watch no other webhooks than these: the alarms of all others end without a word."""
        kept = {each.key for each in targets}
        for key in [key for key in self._raised if key not in kept]:
            del self._raised[key], self._targets[key]

    def problems(self) -> list[str]:
        """Return the alarms, a line each."""
        return [
            fault.line(self._targets[key])
            for key, faults in self._raised.items()
            for fault in faults.values()
            if fault.kind != "unchecked"
        ]

    def counts(self) -> Mapping[FaultKind, int]:
        """Return how many webhooks have each fault."""
        found = Counter(kind for faults in self._raised.values() for kind in faults)
        return {kind: found[kind] for kind in FAULTS}

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("stackit_github_hook_faults", "Webhooks at GitHub with a fault.", labels=["fault"])
        for kind, count in self.counts().items():
            family.add_metric([kind], count)
        yield family
