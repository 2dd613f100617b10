"""The events that tell of people: each means to go and look, but for a revoked authorization, which ends at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stackit.api.events import Event
from stackit.api.hookimpl import on
from stackit.github.apps import GitHubApp
from stackit.github.login.roles import Roles

_OF_AN_APP = "app:"


class LoginEvents:
    """A plugin: has the roles of people looked up again. ``app`` returns the App by which people log in now."""

    def __init__(self, roles: Roles, app: Callable[[], GitHubApp | None]) -> None:
        self._roles = roles
        self._app = app

    @on("organization")
    async def organization(self, event: Event) -> None:
        """Look at people: somebody joined or left an organization, or it has another name."""
        self._look(event)

    @on("membership")
    async def membership(self, event: Event) -> None:
        """Look at people: somebody joined or left a team."""
        self._look(event)

    @on("team")
    async def team(self, event: Event) -> None:
        """Look at people: a team was made or deleted, or is somewhere else among the teams."""
        self._look(event)

    @on("github_app_authorization.revoked")
    async def github_app_authorization(self, event: Event) -> None:
        """End the sessions of a person who takes the App's authorization back. Only the App itself may tell of it."""
        app = self._app()
        if app is None or event.signer.lower() != f"{_OF_AN_APP}{app.name}".lower():
            return
        user = _id(event.payload.get("sender"))
        if user is not None:
            self._roles.end(app, user, "the authorization of the App was revoked at GitHub")

    def _look(self, event: Event) -> None:
        app = self._app()
        if app is None:
            return
        # A look costs requests: who is named is looked at, and everybody only where nobody is.
        named = list(_people(event.payload))
        self._roles.look(self._roles.ids(app, named) if named else None)


def _people(payload: Mapping[str, Any]) -> Iterator[int]:
    """Yield the ids of the people whom an event is about."""
    membership = payload.get("membership")
    about = [payload.get("member"), membership.get("user") if isinstance(membership, Mapping) else None]
    for each in about:
        found = _id(each)
        if found is not None:
            yield found


def _id(account: object) -> int | None:
    found = account.get("id") if isinstance(account, Mapping) else None
    return found if isinstance(found, int) and not isinstance(found, bool) else None
