"""The client of GitHub's API that a plugin gets for a repository."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import TypeVar

from stackit.api.errors import StackitError
from stackit.api.events import Repo
from stackit.api.github import Params
from stackit.api.repos import ManagedRepo
from stackit.github.api import ApiClient
from stackit.github.apps.apps import Apps
from stackit.github.apps.errors import AccessError
from stackit.github.apps.token import Narrowing

EVERYTHING = Narrowing(permissions=())
"""All that the installation grants the App: a plugin may write, if it grants that."""

T = TypeVar("T")


class RepositoryClient:
    """A ``GitHubClient`` for a repository: each request finds the installation that has it, which may change.

    The App is the one that the configuration names for the repository, else the first that is installed for its owner.
    """

    def __init__(self, apps: Apps, repo: Repo, find: Callable[[Repo], ManagedRepo | None]) -> None:
        """``find`` returns the managed repository of a name, also of a former one."""
        self._apps = apps
        self._given = repo
        self._find = find

    async def get(self, route: str, type: type[T], params: Params | None = None, **values: object) -> T:  # noqa: A002
        """Return the decoded answer to a GET."""
        client, repo = await self._client()
        return await client.get(route, type, params, **_filled(route, repo, values))

    async def pages(
        self,
        route: str,
        type: type[T],  # noqa: A002
        params: Params | None = None,
        **values: object,
    ) -> AsyncIterator[T]:
        """Yield every page of a listing, decoded."""
        client, repo = await self._client()
        async for page in client.pages(route, type, params, **_filled(route, repo, values)):
            yield page

    async def send(
        self,
        method: str,
        route: str,
        body: object = None,
        type: type[T] = object,  # type: ignore[assignment]  # noqa: A002
        **values: object,
    ) -> T:
        """Return the decoded answer to a POST, PATCH, PUT or DELETE."""
        client, repo = await self._client()
        return await client.send(method, route, body, type, **_filled(route, repo, values))

    async def _client(self) -> tuple[ApiClient, Repo]:
        """Return the client of an installation, and the name that the repository has now. Raises StackitError."""
        managed = self._find(self._given)
        repo = self._given if managed is None else managed.repo
        if repo.host:
            raise StackitError(f"{repo} is not at GitHub: no App may ask for it")
        if managed is not None and managed.app is not None:
            installation = await self._apps.named(managed.app).installation_for(repo.owner)
            return installation.client_for(EVERYTHING), repo
        problem = StackitError(f"no GitHub App may ask for {repo}: configure one with [[apps]], and install it there")
        for app in self._apps:
            try:
                installation = await app.installation_for(repo.owner)
            except AccessError as without:
                problem = without
            else:
                return installation.client_for(EVERYTHING), repo
        raise problem


def _filled(route: str, repo: Repo, values: Mapping[str, object]) -> dict[str, object]:
    own = {name: value for name, value in (("owner", repo.owner), ("repo", repo.name)) if f"{{{name}}}" in route}
    return own | dict(values)
