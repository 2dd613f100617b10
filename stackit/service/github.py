"""What stackit does at GitHub itself, beside the deliveries that it receives: the Apps, and the parts that use them.

A part is added in ``_make_parts``, and may have what ``Part`` says. It finds the Apps in ``apps``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from prometheus_client.registry import Collector

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.repos import ManagedRepo
from stackit.config.model import Config
from stackit.reload.reloader import Step


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

    settings: Sequence[str]
    """The settings whose changes it takes in a reload."""

    def change(self, new: Config) -> Callable[[], None]:
        """Return a function that takes the new settings. Raises StackitError where they cannot be taken."""


class GitHubParts:
    """All parts, in the order in which they start; they stop in reverse."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self.parts: list[Part] = []
        self._started: list[Part] = []

    def bind(self, managed: Iterable[ManagedRepo]) -> tuple[ManagedRepo, ...]:
        """Return the repositories, each of an App with the source of its tokens."""
        return tuple(managed)

    def start(self) -> None:
        """Start the parts."""
        for part in self.parts:
            part.start()
            self._started.append(part)

    async def stop(self) -> None:
        """Stop those that were started."""
        while self._started:
            await self._started.pop().stop()

    def plugins(self) -> Mapping[str, object]:
        """Return the plugins of the parts by name: their handlers are told of events."""
        found = {f"github-{part.name}": part.plugin() for part in self.parts}
        return {name: plugin for name, plugin in found.items() if plugin is not None}

    def routes(self) -> list[Route]:
        """Return ``GET {prefix}/github``, and the routes of the parts."""
        return [
            Route("GET", "{prefix}/github", self._show, query=()),
            *(route for part in self.parts for route in part.routes()),
        ]

    def collectors(self) -> list[tuple[str, Collector]]:
        """Return the metrics of the parts, each with a name of whose they are."""
        return [(f"github-{part.name}", each) for part in self.parts for each in part.collectors()]

    def problems(self) -> list[str]:
        """Return what an operator has to know, a line each."""
        return [line for part in self.parts for line in part.problems()]

    def status(self) -> dict[str, Any]:
        """Return the state of each part by its name."""
        return {part.name: msgspec.to_builtins(part.status()) for part in self.parts}

    def prepare(self, _: Config, new: Config, names: Sequence[str]) -> Sequence[Step]:
        """Return the steps of a reload, in which the settings of these names differ."""
        own = [(part, [each for each in names if each in part.settings]) for part in self.parts]
        return [Step(apply=part.change(new), changes=changes) for part, changes in own if changes]

    def _show(self, _: AdminRequest) -> Response:
        return Response(body=self.status())
