"""The role of a person, by what GitHub says of organizations, teams and logins to an installation of the App."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from stackit.api.admin import Role
from stackit.api.errors import StackitError
from stackit.config.login import LoginConfig
from stackit.github.api import ApiClient, ApiClients, ApiError, NoCredential
from stackit.github.apps import GitHubApp
from stackit.github.apps.token import Narrowing
from stackit.github.login.oauth import GitHubUser
from stackit.github.login.pins import Pins

MEMBERS = Narrowing(permissions=(("members", "read"),))
METADATA = Narrowing(permissions=(("metadata", "read"),))
_NO_PERMISSION = ("forbidden", "validation")

_Found = TypeVar("_Found")


class _Membership(msgspec.Struct, frozen=True):
    state: str
    user: GitHubUser


class _TeamMembership(msgspec.Struct, frozen=True):
    state: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may do. With ``problems``, some of what would tell could not be asked: there may be more."""

    role: Role | None
    problems: Sequence[str] = ()


class Membership:
    """Asks GitHub, as an App that is installed for the organizations, who belongs to them."""

    def __init__(self, clients: ApiClients, pins: Pins, notice: Callable[[str], None]) -> None:
        self._clients = clients
        self._pins = pins
        self._notice = notice
        self._told: set[str] = set()

    async def user(self, app: GitHubApp, user_id: int) -> GitHubUser | None:
        """Return a person by their id, with the login of today; None where GitHub has none. Raises StackitError."""
        try:
            return await self._anybody(app).get("/user/{account_id}", GitHubUser, account_id=user_id)
        except ApiError as problem:
            if problem.reason == "not_found":
                return None
            raise

    async def pin(self, app: GitHubApp, names: Iterable[str]) -> None:
        """Remember the ids of logins that are new in the configuration. Raises StackitError."""
        for name in names:
            if await self._pins.get(name) is None:
                try:
                    found = await self._anybody(app).get("/users/{username}", GitHubUser, username=name)
                except ApiError as problem:
                    if problem.reason == "not_found":
                        continue  # there is no such account yet: the first sight is that of the login
                    raise
                await self._pins.pin(name, found.id)

    async def look_up(self, app: GitHubApp, user: GitHubUser, login: LoginConfig) -> Standing:
        """Return what a person may do. Never raises StackitError."""
        question = _Question(self, app, user)
        for role, names in (("operator", login.operators), ("viewer", login.viewers)):
            if await question.is_any(names):
                return Standing(role="operator" if role == "operator" else "viewer", problems=question.problems)
        return Standing(role=None, problems=question.problems)

    async def is_person(self, name: str, user: GitHubUser) -> bool:
        """Return whether somebody is the person whom the configuration names. Raises StackitError."""
        if user.login.lower() != name.lower():
            return False
        pinned = await self._pins.get(name)
        if pinned is None:
            pinned = await self._pins.pin(name, user.id)
        if pinned != user.id:
            self._tell(
                f"@{name} of [login] is not who it was: the account of that login has another id (it was {pinned}, and "
                f"is {user.id}); to mean the new one, reload once without @{name}, and then with it"
            )
        return pinned == user.id

    async def is_member(self, app: GitHubApp, organization: str, user: GitHubUser) -> bool:
        """Return whether a person is an active member of an organization. Raises StackitError."""
        client = await _client(app, organization)
        route = "/orgs/{org}/memberships/{username}"
        found = await _found(client, organization, route, _Membership, username=user.login)
        return found is not None and found.state == "active" and found.user.id == user.id

    async def is_in_team(self, app: GitHubApp, organization: str, team: str, user: GitHubUser) -> bool:
        """Return whether a person who is a member of an organization is active in one of its teams, or below it."""
        client = await _client(app, organization)
        route = "/orgs/{org}/teams/{team_slug}/memberships/{username}"
        values = {"team_slug": team.lower(), "username": user.login}
        found = await _found(client, organization, route, _TeamMembership, **values)
        return found is not None and found.state == "active"

    def _anybody(self, app: GitHubApp) -> ApiClient:
        """Return a client that may look at accounts: of any installation, or else without a credential."""
        for each in app:
            if each.state == "active":
                return each.client_for(METADATA)
        return self._clients.client(app.config.api_url, NoCredential(f"{app.name}/login"))

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._notice(line)


class _Question:
    """One person, and what is known of them by now."""

    def __init__(self, membership: Membership, app: GitHubApp, user: GitHubUser) -> None:
        self.problems: list[str] = []
        self._membership = membership
        self._app = app
        self._user = user
        self._member: dict[str, bool | StackitError] = {}  # of organizations, or why that is not known

    async def is_any(self, names: Iterable[str]) -> bool:
        """Return whether the person is, or belongs to, one of these. What cannot be asked is one of ``problems``."""
        for name in names:
            try:
                if await self._is(name):
                    return True
            except StackitError as problem:
                if str(problem) not in self.problems:
                    self.problems.append(str(problem))
        return False

    async def _is(self, name: str) -> bool:
        if name.startswith("@"):
            return await self._membership.is_person(name[1:], self._user)
        organization, _, team = name.partition("/")
        is_member = await self._is_member(organization)
        if not team or not is_member:
            return is_member
        return await self._membership.is_in_team(self._app, organization, team, self._user)

    async def _is_member(self, organization: str) -> bool:
        known = self._member.get(organization.lower())
        if known is None:
            try:
                known = await self._membership.is_member(self._app, organization, self._user)
            except StackitError as problem:
                known = problem
            self._member[organization.lower()] = known
        if isinstance(known, StackitError):
            raise known
        return known


async def _client(app: GitHubApp, organization: str) -> ApiClient:
    return (await app.installation_for(organization)).client_for(MEMBERS)


async def _found(
    client: ApiClient,
    organization: str,
    route: str,
    type: type[_Found],  # noqa: A002
    **values: str,
) -> _Found | None:
    """Return an answer about an organization, None where there is no such thing. Raises StackitError."""
    try:
        return await client.get(route, type, None, org=organization, **values)
    except ApiError as problem:
        if problem.reason == "not_found":
            return None
        if problem.reason in _NO_PERMISSION:
            raise StackitError(
                f"the App may not see who belongs to {organization}: give it the permission Members (read-only), and "
                f"accept that in the settings of {organization}"
            ) from None
        raise
