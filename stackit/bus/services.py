"""The services of plugins, started one after the other, and stopped all at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from stackit.api.reactor import Reactor
from stackit.bus.implementations import plugin_fault
from stackit.bus.timeouts import call, end_within
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted


class PluginServices:
    """The Twisted services of ``stackit_service``, each with the name of its plugin."""

    def __init__(self, services: Sequence[tuple[str, Any]], redact: Redact = redacted) -> None:
        self._services = services
        self._redact = redact
        self._started: list[tuple[str, Any]] = []

    def start(self) -> None:
        """Start the services in their order. Raises PluginError for the first that cannot be started."""
        for plugin, service in self._services:
            try:
                service.startService()
            except BaseException as fault:  # foreign code: named, and the start stops
                raise plugin_fault(plugin, "its service cannot be started", fault, self._redact) from fault
            self._started.append((plugin, service))

    def stop(self, reactor: Reactor, within: float) -> Mapping[str, Deferred[None]]:
        """Stop those that were started. Return a Deferred by plugin; each fires within so many seconds."""
        started, self._started = self._started, []
        return {
            plugin: end_within(reactor, call(service.stopService), within, f"plugin {plugin}: its service did not stop")
            for plugin, service in reversed(started)
        }
