"""The Apps as a part of the running stackit: its status, its metrics, and the changes of a reload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from prometheus_client.registry import Collector

from stackit.api.admin import Route
from stackit.config.model import Config
from stackit.github.apps.apps import Apps
from stackit.github.apps.events import InstallationEvents


class AppsPart:
    """The Apps, their installations, and the tokens of these."""

    name = "apps"
    settings = ("apps",)

    def __init__(self, config: Config, apps: Apps) -> None:
        self._config = config
        self._apps = apps

    def start(self) -> None:
        """Begin nothing: GitHub is asked when somebody needs a token."""

    async def stop(self) -> None:
        """End what runs in the background."""
        await self._apps.stop()

    def status(self) -> Any:
        """Return the Apps and their installations."""
        return self._apps.status()

    def problems(self) -> Sequence[str]:
        """Return Apps that GitHub refuses, and installations that give no token to repositories."""
        return self._apps.problems()

    def routes(self) -> Sequence[Route]:
        """Return none: ``GET {prefix}/github`` shows the status."""
        return ()

    def collectors(self) -> Sequence[Collector]:
        """Return the metrics of Apps and tokens."""
        return self._apps.collectors()

    def plugin(self) -> object | None:
        """Return what is told of events of installations."""
        return InstallationEvents(self._apps) if self._config.apps else None

    def change(self, new: Config) -> Callable[[], None]:
        """Return what takes the Apps of a configuration. Sources that are made from here on fit these."""
        self._apps.expect(new.apps)
        return partial(self._apps.change, new.apps)
