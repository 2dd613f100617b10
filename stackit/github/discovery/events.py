"""The events that tell of a change of repositories: each means to go and look, and moves nothing by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec

from stackit.api.events import Event
from stackit.api.hookimpl import on
from stackit.github.apps.events import installation_of

Use = Literal["looked", "ignored"]
USES: tuple[Use, ...] = ("looked", "ignored")

_APP, _OWNER = "app:", "owner:"


class Place(msgspec.Struct, frozen=True):
    """Where to look: at the listings of an App or an owner, or at all; where there is one, of an installation alone."""

    app: str | None = None
    owner: str | None = None
    installation: int | None = None

    def text(self) -> str:
        """Return it as text."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, text: str) -> Place:
        """Return that of a text; all, where a newer node has written it."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError:
            return cls()


class DiscoveryEvents:
    """A plugin: has the sources that an event's signer speaks for read their listings.

    An App's secret moves nothing but the repositories of that App, whatever the payload says. A secret in
    ``[webhook]`` speaks for all. ``uses`` counts the events.
    """

    def __init__(self, look_at: Callable[[Place], Awaitable[bool]]) -> None:
        """``look_at`` is told where to look, and returns False where there is nothing to read."""
        self.uses: Counter[Use] = Counter()
        self._look_at = look_at

    @on("installation")
    async def installation(self, event: Event) -> None:
        """Look: an installation was made, deleted, suspended or unsuspended, or has other permissions."""
        await self._look(event, None)

    @on("installation_target")
    async def installation_target(self, event: Event) -> None:
        """Look: an account has another name."""
        await self._look(event, None)

    @on("installation_repositories")
    async def installation_repositories(self, event: Event) -> None:
        """Look: repositories were added to an installation, or removed."""
        await self._look(event, installation_of(event))

    @on("repository")
    async def repository(self, event: Event) -> None:
        """Look: a repository was made, deleted, renamed, transferred, or has another property."""
        await self._look(event, installation_of(event))

    @on("meta")
    async def meta(self, event: Event) -> None:
        """Look: a webhook was deleted, and with it goes the news of what it would have told."""
        await self._look(event, None)

    async def _look(self, event: Event, installation: int | None) -> None:
        signer = event.signer
        if signer.startswith(_APP):
            looked = await self._look_at(Place(app=signer.removeprefix(_APP), installation=installation))
        elif signer.startswith(_OWNER):
            looked = await self._look_at(Place(owner=signer.removeprefix(_OWNER)))
        else:
            looked = not signer and await self._look_at(Place())
        self.uses["looked" if looked else "ignored"] += 1
