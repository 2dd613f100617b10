"""The metrics of other plugins, each plugin's apart: one that fails takes no other's away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Metric

from stackit import App, Occurrence, StackitError, describe_with_place
from stackit.plugins.metrics.exposition import text_of


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

    def pieces(self) -> Iterator[bytes]:
        """Yield the metrics as text. What a plugin cannot give is missing, and a notice says so once.

        A collector may give a large metric in parts, one after the other.
        """
        for plugin in self._collectors:
            name = ""
            for family in self._families(plugin):
                try:
                    piece = text_of(family, goes_on=family.name == name)
                except BaseException as fault:  # noqa: BLE001 - foreign code: samples may hold anything
                    self._notice(plugin, fault)
                else:
                    name = family.name
                    yield piece

    def _families(self, plugin: str) -> Iterator[Metric]:
        for collector in self._collectors[plugin]:
            found: Iterator[object] | None = None
            while True:
                try:
                    found = iter(collector.collect()) if found is None else found
                    family = _checked(next(found))
                except StopIteration:
                    break
                except BaseException as fault:  # noqa: BLE001 - foreign code
                    self._notice(plugin, fault)
                    break
                yield family

    def _notice(self, plugin: str, fault: BaseException) -> None:
        if plugin not in self._named:
            self._named.add(plugin)
            error = describe_with_place(fault, self._app.redact)
            self._app.observe(Occurrence(name="notice", plugin=plugin, reason="metrics cannot be read", error=error))


def _checked(family: object) -> Metric:
    if not isinstance(family, Metric):
        raise TypeError(f"collect returned {type(family).__name__}, expected Metric")
    return family
