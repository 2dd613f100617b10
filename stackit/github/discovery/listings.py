"""The listings that a configuration asks for: of the installations of Apps, and of organizations and users."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from stackit.api.repos import REALM
from stackit.config.apps import GITHUB_API, web_url
from stackit.config.discover import DiscoverTable
from stackit.github.api import ApiClient
from stackit.github.apps import GitHubApp, Installation
from stackit.github.discovery.difference import Found
from stackit.github.discovery.listing import Page, of_installation, of_owner
from stackit.github.discovery.report import ListingReport
from stackit.github.discovery.rules import Rule
from stackit.github.discovery.second_look import Sighting, look
from stackit.registry import Discovered, Record


class Listing(Protocol):
    """The repositories of an account, as one credential sees them, and the rules for them.

    ``name`` is what people call it, ``realm`` that of its ids, ``installation`` the id of an App's.
    """

    name: str
    realm: str
    installation: int | None
    rules: Sequence[Rule]

    def pages(self) -> AsyncIterator[Page]:
        """Yield the repositories. Raises StackitError unless all of them were shown."""

    async def look(self, number: int) -> Sighting:
        """Look for a repository by its id. Raises StackitError where that does not tell what became of it."""

    def has(self, record: Record) -> bool:
        """Return True if a repository was found by this listing, or by one in whose place it is."""

    def wanted(self, found: Found) -> Discovered:
        """Return a repository as it is to be mirrored."""


class AppListing:
    """The listing of an installation."""

    def __init__(self, app: GitHubApp, installation: Installation, rules: Sequence[Rule]) -> None:
        self.name = f"{app.name} at {installation.account.login}"
        self.realm = realm(app.config.api_url)
        self.installation: int | None = installation.id
        self.rules = rules
        self._app = app
        self._of = installation

    def pages(self) -> AsyncIterator[Page]:
        """Yield the repositories of the installation."""
        return of_installation(self._of.client)

    async def look(self, number: int) -> Sighting:
        """Look for a repository with the installation's token, and ask for its installation as the App."""
        return await look(self._of.client, number, self._of.account.login, self._app.client)

    def has(self, record: Record) -> bool:
        """Return True for a repository of the installation, or of an earlier one for the same account."""
        if record.app != self._app.name or record.source != "discover":
            return False
        if record.installation == self._of.id:
            return True
        earlier = None if record.installation is None else self._app.by_id(record.installation)
        is_there = earlier is not None and earlier.state != "uninstalled"
        return not is_there and record.repo.owner.lower() == self._of.account.login.lower()

    def wanted(self, found: Found) -> Discovered:
        """Return a repository with the App and the installation that have it."""
        return msgspec.structs.replace(
            _discovered(found, self._app.config.web_url), app=self._app.name, installation=self._of.id
        )


class OwnerListing:
    """The listing of an organization or a user, with a token."""

    def __init__(self, client: ApiClient, rules: Sequence[Rule]) -> None:
        """``rules`` have one owner, one API and one token file."""
        table = rules[0].table
        self.kind: Literal["organization", "user"] = "user" if table.user is not None else "organization"
        self.login = table.user or table.organization or ""
        self.name = f"{self.kind} {self.login}"
        self.realm = realm(table.api_url)
        self.installation: int | None = None
        self.rules = rules
        self._client = client
        self._web_url = web_url(table.api_url)

    def pages(self) -> AsyncIterator[Page]:
        """Yield the repositories of the owner that the token may see."""
        return of_owner(self._client, self.kind, self.login)

    async def look(self, number: int) -> Sighting:
        """Look for a repository with the token."""
        return await look(self._client, number, self.login)

    def has(self, record: Record) -> bool:
        """Return True for a repository of the owner that no App has."""
        return (
            record.source == "discover"
            and record.app is None
            and record.realm == self.realm
            and record.repo.owner.lower() == self.login.lower()
        )

    def wanted(self, found: Found) -> Discovered:
        """Return a repository with the token file of its rule."""
        return msgspec.structs.replace(
            _discovered(found, self._web_url), token_file=str(found.decision.rule.table.token_file)
        )


def realm(api_url: str) -> str:
    """Return the realm of the ids of a GitHub: each server counts for itself."""
    return REALM if api_url.rstrip("/") == GITHUB_API else urlsplit(web_url(api_url)).netloc


def rules_of_apps(rules: Sequence[Rule]) -> Mapping[str, Sequence[Rule]]:
    """Return the rules of each App by its name."""
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.table.app is not None:
            found.setdefault(rule.table.app, []).append(rule)
    return found


def rules_of_owners(rules: Sequence[Rule]) -> Sequence[Sequence[Rule]]:
    """Return the rules of organizations and users: those together that read one listing."""
    found: dict[tuple[object, ...], list[Rule]] = {}
    for rule in rules:
        if rule.table.app is None:
            found.setdefault(_owner(rule.table), []).append(rule)
    return list(found.values())


def rules_at(rules: Sequence[Rule], login: str) -> Sequence[Rule]:
    """Return the rules of an App that are for its installation at an account."""
    return [
        rule for rule in rules if rule.table.installation is None or rule.table.installation.lower() == login.lower()
    ]


def without_listing(app: GitHubApp, rules: Sequence[Rule]) -> list[ListingReport]:
    """Return the installations that an App's rules ask for, and that GitHub lists nothing of, with the reason."""
    found = [each for each in app if rules_at(rules, each.account.login)]
    reports = [
        ListingReport(listing=f"{app.name} at {each.account.login}", problem=each.reason)
        for each in found
        if each.state != "active"
    ]
    known = {each.account.login.lower() for each in found}
    asked = dict.fromkeys(rule.table.installation for rule in rules)
    for login in asked:
        if login is not None and login.lower() not in known:
            reports.append(ListingReport(listing=f"{app.name} at {login}", problem=app.no_installation(login)))
        elif login is None and not known:
            problem = f"App {app.name} is not installed anywhere: install it at {app.config.web_url}"
            reports.append(ListingReport(listing=f"App {app.name}", problem=problem))
    return reports


def _owner(table: DiscoverTable) -> tuple[object, ...]:
    return table.api_url, (table.organization or "").lower(), (table.user or "").lower(), table.token_file


def _discovered(found: Found, web: str) -> Discovered:
    # The address is made here: a token goes nowhere else, whatever a listing says.
    table = found.decision.rule.table
    return Discovered(
        id=found.id,
        repo=found.repo,
        url=f"{web}/{found.listed.full_name}.git",
        rule=found.decision.rule.name,
        refspecs=table.refspecs,
        keep_forced=table.keep_forced,
        deletes=table.on_removed == "delete",
    )
