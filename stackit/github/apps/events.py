"""The events that tell of an installation: each means to go and look, and proves nothing by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from stackit.api.events import Event
from stackit.api.hookimpl import on

if TYPE_CHECKING:
    from stackit.github.apps.app import GitHubApp
    from stackit.github.apps.apps import Apps

_OF_AN_APP = "app:"


class InstallationEvents:
    """A plugin: has the Apps of an event ask GitHub for their installations."""

    def __init__(self, apps: Apps) -> None:
        self._apps = apps

    @on("installation")
    async def installation(self, event: Event) -> None:
        """Look at the installations: one was suspended or unsuspended, made or deleted, or has other permissions."""
        for app in tuple(self._of(event)):
            await app.look_again()

    @on("installation_target")
    async def installation_target(self, event: Event) -> None:
        """Look at the installations: an account has another name."""
        for app in tuple(self._of(event)):
            await app.look_again()

    def _of(self, event: Event) -> Iterator[GitHubApp]:
        """Yield the App whose secret signed an event; all of them where the secret is no App's own."""
        if event.signer.startswith(_OF_AN_APP):
            app = self._apps.get(event.signer.removeprefix(_OF_AN_APP))
            if app is not None:
                yield app
        elif not event.signer:
            yield from self._apps
