"""Repositories: those of an installation, of an owner, and one by its name or id."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from stackit.testing.github_api import shapes
from stackit.testing.github_api.answers import ApiAnswer, ApiRefused, ApiRequest, forbidden, not_found
from stackit.testing.github_api.owners import Kind, Owner, Owners
from stackit.testing.github_api.paging import page_of
from stackit.testing.github_api.repositories import HostedRepository, Repositories
from stackit.testing.github_api.router import Router
from stackit.testing.github_api.routes.lookup import repository_named

_TYPES: Mapping[str, Callable[[HostedRepository], bool]] = {
    "all": lambda _: True,
    "public": lambda each: not each.private,
    "private": lambda each: each.private,
    "forks": lambda each: each.fork,
    "sources": lambda each: not each.fork,
    "member": lambda _: False,
}


class RepositoryRoutes:
    """The routes of repositories."""

    def __init__(self, owners: Owners, repositories: Repositories) -> None:
        self._owners = owners
        self._repositories = repositories

    def add_to(self, router: Router) -> None:
        """Serve them."""
        router.add("GET", "/installation/repositories", self._of_installation, access="installation")
        router.add("GET", "/orgs/{org}/repos", self._of_organization)
        router.add("GET", "/users/{username}/repos", self._of_user)
        router.add("GET", "/user/repos", self._of_caller, access="token")
        router.add("GET", "/repos/{owner}/{repo}", self._one)

    def _of_installation(self, request: ApiRequest) -> ApiAnswer:
        token = request.token
        assert token.installation is not None  # noqa: S101 - the route is for installations
        if not token.may("metadata"):
            raise forbidden()
        reached, narrowed = token.installation.repositories(), token.repository_ids
        if narrowed is not None:
            reached = [each for each in reached if each.id in narrowed]
        page, headers = page_of(request, reached)
        body = {
            "total_count": len(reached),
            "repository_selection": token.installation.selection if narrowed is None else "selected",
            "repositories": [shapes.repository(each, request) for each in page],
        }
        return ApiAnswer(body=body, headers=headers)

    def _of_organization(self, request: ApiRequest) -> ApiAnswer:
        kind = request.query.get("type", "all")
        if kind not in _TYPES:
            raise ApiRefused(422, f"Invalid value for parameter type: {kind}")
        owned = self._repositories.owned(self._owner(request.parameters["org"], "Organization"))
        return self._listed(request, (each for each in owned if _TYPES[kind](each) and request.caller.sees(each)))

    def _of_user(self, request: ApiRequest) -> ApiAnswer:
        owned = self._repositories.owned(self._owner(request.parameters["username"]))
        return self._listed(request, (each for each in owned if not each.private))

    def _of_caller(self, request: ApiRequest) -> ApiAnswer:
        token = request.token
        if token.installation is not None:
            raise forbidden()
        return self._listed(request, (each for each in self._repositories if token.reaches(each)))

    def _one(self, request: ApiRequest) -> ApiAnswer:
        found = repository_named(request, self._repositories)
        if not request.caller.sees(found):
            raise not_found()
        # Alone, a repository is shown with more than in a list.
        return ApiAnswer(body=shapes.repository(found, request) | {"network_count": 0, "subscribers_count": 0})

    def _listed(self, request: ApiRequest, found: Iterable[HostedRepository]) -> ApiAnswer:
        page, headers = page_of(request, list(found))
        return ApiAnswer(body=[shapes.repository(each, request) for each in page], headers=headers)

    def _owner(self, login: str, kind: Kind | None = None) -> Owner:
        owner = self._owners.find(login)
        if owner is None or kind not in (None, owner.kind):
            raise not_found()
        return owner
