"""What the service asks of each part of what stackit does at GitHub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from prometheus_client.registry import Collector

from stackit.api.admin import Route
from stackit.config.model import Config


class Part(Protocol):
    """A part of what stackit does at GitHub."""

    name: str
    """The key of its status, and the name of its plugin."""

    def start(self) -> None:
        """Begin, once stackit listens. What runs in the background is ended by ``stop``."""

    async def stop(self) -> None:
        """End everything that it began."""

    def status(self) -> Any:
        """Return what ``GET {prefix}/github`` shows of it, of plain values."""

    def problems(self) -> Sequence[str]:
        """Return what an operator has to know, a line each, for ``/readyz``."""

    def routes(self) -> Sequence[Route]:
        """Return its routes of the admin side."""

    def collectors(self) -> Sequence[Collector]:
        """Return its metrics."""

    def plugin(self) -> object | None:
        """Return a plugin whose handlers are told of events, None for a part that wants none."""

    @property
    def settings(self) -> Sequence[str]:
        """The settings whose changes it takes in a reload."""

    def change(self, new: Config) -> Callable[[], None]:
        """Return a function that takes the new settings. Raises StackitError where they cannot be taken."""
