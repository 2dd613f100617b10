"""The events that tell of an installation: each means to go and look, and proves nothing by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from stackit.api.events import Event
from stackit.api.hookimpl import on

if TYPE_CHECKING:
    from stackit.github.apps.app import GitHubApp
    from stackit.github.apps.apps import Apps

_OF_AN_APP = "app:"


class InstallationEvents:
    """A plugin: has the Apps of an event ask GitHub for the installation that it tells of, at every node of a fleet."""

    def __init__(self, apps: Apps, tell_all: Callable[[str], Awaitable[None]] | None = None) -> None:
        """``tell_all`` has every node look as a text says, this one, too."""
        self._apps = apps
        self._tell_all = tell_all

    @on("installation")
    async def installation(self, event: Event) -> None:
        """Look at an installation: it was made or deleted, suspended or unsuspended, or has other permissions."""
        await self._look(event)

    @on("installation_target")
    async def installation_target(self, event: Event) -> None:
        """Look at an installation: its account has another name."""
        await self._look(event)

    async def _look(self, event: Event) -> None:
        for app in tuple(self._of(event)):
            installation = installation_of(event)
            if self._tell_all is None:
                await app.look_at(installation)
            else:
                await self._tell_all(f"{app.name} {installation or 0}")

    def _of(self, event: Event) -> Iterator[GitHubApp]:
        """Yield the App whose secret signed an event; all of them where the secret is no App's own."""
        if event.signer.startswith(_OF_AN_APP):
            app = self._apps.get(event.signer.removeprefix(_OF_AN_APP))
            if app is not None:
                yield app
        elif not event.signer:
            yield from self._apps


def installation_of(event: Event) -> int | None:
    """Return the id of the installation that an event names, None where it names none."""
    found = event.payload.get("installation")
    number = found.get("id") if isinstance(found, Mapping) else None
    return number if isinstance(number, int) else None
