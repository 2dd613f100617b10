"""The metrics of other plugins, each plugin's apart: one that fails takes no other's away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest

from stackit import App, Occurrence, StackitError, describe


class PluginMetrics:
    """Serves the collectors of ``app``, beside ``own``, the metrics plugin's own registry.

    Raises StackitError for a metric that two plugins have.
    """

    def __init__(self, app: App, own: CollectorRegistry) -> None:
        self._app = app
        self._named: set[str] = set()
        self._collectors: dict[str, list[Any]] = {}
        for plugin, collector in app.collectors:
            self._collectors.setdefault(plugin, []).append(collector)
        self._refuse_doubles(own)

    def _refuse_doubles(self, own: CollectorRegistry) -> None:
        owners = {family.name: "metrics" for family in own.collect()}
        for plugin in self._collectors:
            for name in sorted({family.name for family in self._families(plugin)}):
                if name in owners:
                    raise StackitError(
                        f"plugin {plugin}: the metric {name} is there already, from plugin {owners[name]}"
                    )
                owners[name] = plugin

    def render(self) -> bytes:
        """Return the metrics as text. Those of a plugin that fails are missing, and a notice says so once."""
        return b"".join(self._render(plugin) for plugin in self._collectors)

    def _render(self, plugin: str) -> bytes:
        try:
            return generate_latest(_Families(self._families(plugin)))
        except BaseException as fault:  # noqa: BLE001 - foreign code: samples may hold anything
            self._notice(plugin, fault)
            return b""

    def _families(self, plugin: str) -> list[Metric]:
        try:
            return [_checked(family) for each in self._collectors[plugin] for family in each.collect()]
        except BaseException as fault:  # noqa: BLE001 - foreign code
            self._notice(plugin, fault)
            return []

    def _notice(self, plugin: str, fault: BaseException) -> None:
        if plugin not in self._named:
            self._named.add(plugin)
            error = describe(fault, self._app.redact)
            self._app.observe(Occurrence(name="notice", plugin=plugin, reason="metrics cannot be read", error=error))


class _Families:
    """A registry with the metrics of one plugin."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _checked(family: object) -> Metric:
    if not isinstance(family, Metric):
        raise TypeError(f"collect returned {type(family).__name__}, expected Metric")
    return family
