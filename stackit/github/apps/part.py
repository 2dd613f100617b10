"""The Apps as a part of the running stackit: its status, its metrics, and the changes of a reload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
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

    def __init__(self, config: Config, apps: Apps, *, tell_all: Callable[[str], Awaitable[None]] | None = None) -> None:
        """``tell_all`` has every node of a fleet ``look_as_told``."""
        self._tell_all = tell_all
        self._config = config
        self._apps = apps

    async def look_as_told(self, text: str) -> bool:
        """Look at an installation of which some node was told: the name of an App, and an id or 0."""
        name, _, installation = text.rpartition(" ")
        app = self._apps.get(name)
        if app is not None:
            await app.look_at(int(installation) or None)
        return True

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
        return InstallationEvents(self._apps, self._tell_all) if self._config.apps else None

    def change(self, new: Config) -> Callable[[], None]:
        """Return what takes the Apps of a configuration. Sources that are made from here on fit these."""
        self._apps.expect(new.apps)
        return partial(self._apps.change, new.apps)
