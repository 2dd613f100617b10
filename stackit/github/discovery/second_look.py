"""The second look at a repository that a complete listing lacks: by its id, since pages skip what moves meanwhile."""

from __future__ import annotations

from typing import Literal

import msgspec

from stackit.api.events import Repo
from stackit.github.api import ApiClient, ApiError
from stackit.github.discovery.listed import ListedRepo

Whereabouts = Literal["here", "gone", "no_access"]
"""A repository is ``here`` if it is to be mirrored on, ``gone`` if GitHub knows it no more, or may not say so;
``no_access``: it is there, but in nobody's reach whom the listing is of.
"""


class Sighting(msgspec.Struct, frozen=True):
    """What a second look shows. ``reason`` is a clause for people, ``repo`` the name now, if there is one."""

    whereabouts: Whereabouts
    reason: str
    repo: Repo | None = None


class InstallationRef(msgspec.Struct, frozen=True):
    """An installation that has a repository."""

    id: int


async def look(client: ApiClient, number: int, owner: str, app: ApiClient | None = None) -> Sighting:
    """Look for a repository by its id. Raises ApiError where GitHub does not say clearly what became of it.

    ``owner`` is the account of the listing. ``app`` asks as an App whether an installation of it has the repository:
    one that is public can be seen without.
    """
    try:
        found = await client.get("/repositories/{id}", ListedRepo, id=number)
    except ApiError as problem:
        if problem.reason != "not_found":
            raise
        return Sighting("gone", "GitHub knows no repository of its id any more")
    if found.id != number:
        raise ApiError(f"GitHub shows the repository {found.id} in place of {number}", reason="shape")
    if app is None:
        if found.owner.login.lower() == owner.lower():
            return Sighting("here", "the listing skipped it", found.repo)
        return Sighting("no_access", f"it belongs to {found.owner.login} now", found.repo)
    if await _is_installed(app, found.repo):
        return Sighting("here", "an installation of the App has it", found.repo)
    return Sighting("no_access", f"no installation of the App has {found.full_name}", found.repo)


async def _is_installed(app: ApiClient, repo: Repo) -> bool:
    try:
        await app.get("/repos/{owner}/{repo}/installation", InstallationRef, owner=repo.owner, repo=repo.name)
    except ApiError as problem:
        if problem.reason != "not_found":
            raise
        return False
    return True
