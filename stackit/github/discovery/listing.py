"""Listings of GitHub: the repositories of an installation, of an organization or of a user, page by page.

A listing counts as complete when every page came, had the right shape, and the pages together are what GitHub says they
are. Whatever else happens is an error: then nobody knows what is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from stackit.api.errors import StackitError
from stackit.github.api import ApiClient
from stackit.github.discovery.listed import InstallationPage, ListedRepo

Page = tuple[ListedRepo, ...]


class Unsure(StackitError):
    """A listing of which every page came, that yet does not fit: it tells of no repository that it is gone."""


class User(msgspec.Struct, frozen=True):
    """The user that a token belongs to."""

    login: str


async def of_installation(client: ApiClient) -> AsyncIterator[Page]:
    """Yield the repositories of the installation that a client's token is of. Raises ApiError, Unsure."""
    ids: set[int] = set()
    totals: set[int] = set()
    async for page in client.pages("/installation/repositories", InstallationPage):
        ids.update(each.id for each in page.repositories)
        totals.add(page.total_count)
        yield page.repositories
    if totals != {len(ids)}:
        said = " and ".join(str(each) for each in sorted(totals))
        raise Unsure(f"the listing shows {len(ids)} repositories, and says that there are {said}")


async def of_owner(client: ApiClient, kind: Literal["organization", "user"], login: str) -> AsyncIterator[Page]:
    """Yield the repositories of an organization or a user that a client's token may see. Raises ApiError, Unsure.

    Those of the user whom the token is of are listed with the private ones. That is asked for, as a listing without
    them would be complete, too.
    """
    if kind == "organization":
        pages = client.pages("/orgs/{login}/repos", Page, {"type": "all"}, login=login)
    elif (await client.get("/user", User)).login.lower() == login.lower():
        pages = client.pages("/user/repos", Page, {"affiliation": "owner"})
    else:
        pages = client.pages("/users/{login}/repos", Page, {"type": "owner"}, login=login)
    async for page in pages:
        if stranger := next((each for each in page if each.owner.login.lower() != login.lower()), None):
            raise Unsure(f"the listing of {login} shows {stranger.full_name}: was it renamed?")
        yield page
