"""The metrics of a plugin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Collector(Protocol):
    """A collector of ``prometheus_client``: its ``Counter``, ``Gauge`` and so on, or a ``Collector`` of one's own."""

    def collect(self) -> Iterable[Any]:
        """Return the metrics as they are now, each a ``prometheus_client.Metric``."""
