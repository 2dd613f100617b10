"""What an App asks with its JWT: itself, its installations, their tokens."""

from __future__ import annotations

from typing import cast

from stackit.api.events import Repo
from stackit.testing.github_api import shapes
from stackit.testing.github_api.answers import ApiAnswer, ApiRefused, ApiRequest, not_found
from stackit.testing.github_api.apps import Apps, Installation
from stackit.testing.github_api.credentials import suspended
from stackit.testing.github_api.owners import Owners
from stackit.testing.github_api.paging import page_of
from stackit.testing.github_api.repositories import HostedRepository, Repositories
from stackit.testing.github_api.router import Router
from stackit.testing.github_api.routes.lookup import repository_named
from stackit.testing.github_api.tokens import Format, Tokens

MOST_REPOSITORIES = 500
"""Repositories that a token can be narrowed to."""


class AppRoutes:
    """The routes of Apps."""

    def __init__(self, apps: Apps, owners: Owners, repositories: Repositories, tokens: Tokens) -> None:
        self._apps = apps
        self._owners = owners
        self._repositories = repositories
        self._tokens = tokens

    def add_to(self, router: Router) -> None:
        """Serve them."""
        one = "/app/installations/{installation_id}"
        router.add("GET", "/app", self._app, access="app")
        router.add("GET", "/app/installations", self._list, access="app")
        router.add("GET", one, self._one, access="app")
        router.add("DELETE", one, self._delete, access="app")
        router.add("POST", f"{one}/access_tokens", self._mint, access="app")
        router.add("PUT", f"{one}/suspended", self._suspend, access="app")
        router.add("DELETE", f"{one}/suspended", self._unsuspend, access="app")
        router.add("GET", "/orgs/{org}/installation", self._of_owner, access="app")
        router.add("GET", "/users/{username}/installation", self._of_owner, access="app")
        router.add("GET", "/repos/{owner}/{repo}/installation", self._of_repository, access="app")
        router.add("DELETE", "/installation/token", self._revoke, access="installation")

    def _app(self, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(body=shapes.app(request.app, request))

    def _list(self, request: ApiRequest) -> ApiAnswer:
        page, headers = page_of(request, request.app.installations)
        return ApiAnswer(body=[shapes.installation(each, request.api_url) for each in page], headers=headers)

    def _one(self, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(body=shapes.installation(self._named(request), request.api_url))

    async def _delete(self, request: ApiRequest) -> ApiAnswer:
        await self._named(request).uninstall()
        return ApiAnswer(status=204)

    async def _suspend(self, request: ApiRequest) -> ApiAnswer:
        await self._named(request).suspend()
        return ApiAnswer(status=204)

    async def _unsuspend(self, request: ApiRequest) -> ApiAnswer:
        await self._named(request).unsuspend()
        return ApiAnswer(status=204)

    def _of_owner(self, request: ApiRequest) -> ApiAnswer:
        kind, login = ("Organization", "org") if "org" in request.parameters else ("User", "username")
        owner = self._owners.find(request.parameters[login])
        if owner is None or owner.kind != kind:
            raise not_found()
        found = self._apps.installation(request.app, owner)
        if found is None:
            raise not_found()
        return ApiAnswer(body=shapes.installation(found, request.api_url))

    def _of_repository(self, request: ApiRequest) -> ApiAnswer:
        found = repository_named(request, self._repositories)
        reaching = [each for each in request.app.installations if each.reaches(found)]
        if not reaching:
            raise not_found()
        return ApiAnswer(body=shapes.installation(reaching[0], request.api_url))

    def _named(self, request: ApiRequest) -> Installation:
        text = request.parameters["installation_id"]
        found = self._apps.installations.get(int(text)) if text.isascii() and text.isdigit() else None
        if found is None or found.app is not request.app:
            raise not_found()
        return found

    # Tokens

    def _mint(self, request: ApiRequest) -> ApiAnswer:
        installation = self._named(request)
        if installation.suspended_at is not None:
            raise suspended()
        asked = request.object()
        unknown = sorted(set(asked) - {"repositories", "repository_ids", "permissions"})
        if unknown:
            raise ApiRefused(422, f"Invalid request.\n\n{unknown[0]!r} is not a permitted key.")
        narrowed = self._narrowed(installation, asked.get("repositories"), asked.get("repository_ids"))
        permissions = asked.get("permissions") or None  # an empty object asks for all
        if permissions is not None:
            self._check_permissions(installation, permissions)
        wanted = {"enabled": "long", "disabled": "short"}.get(request.headers.get("x-github-stateless-s2s-token", ""))
        made = self._tokens.mint(
            installation,
            permissions=permissions,
            repository_ids=None if narrowed is None else frozenset(each.id for each in narrowed),
            format=cast("Format | None", wanted),
        )
        return ApiAnswer(status=201, body=shapes.token(made, request, narrowed))

    def _narrowed(self, installation: Installation, names: object, ids: object) -> list[HostedRepository] | None:
        """Return the repositories of a narrower token; None for all. Raises ApiRefused."""
        if names is None and ids is None:
            return None
        names, ids = names or [], ids or []
        if not isinstance(names, list) or not isinstance(ids, list):
            raise ApiRefused(422, "Invalid request.\n\nFor 'properties/repositories', it is not an array.")
        if len(names) + len(ids) > MOST_REPOSITORIES:
            raise ApiRefused(422, f"The number of repositories must not be over {MOST_REPOSITORIES}.")
        found = [self._owned(installation, each) for each in names]
        found += [self._repositories.by_id(each) if isinstance(each, int) else None for each in ids]
        reached = [each for each in found if each is not None and installation.reaches(each)]
        if len(reached) < len(found):
            raise ApiRefused(
                422,
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            )
        return reached

    def _owned(self, installation: Installation, name: object) -> HostedRepository | None:
        """Return a repository of the installation's owner by its name without the owner."""
        try:
            return self._repositories.find(Repo.parse(f"{installation.owner.login}/{name}"))
        except ValueError:
            return None

    def _check_permissions(self, installation: Installation, permissions: object) -> None:
        order = ("read", "write", "admin")
        if not isinstance(permissions, dict) or not all(each in order for each in permissions.values()):
            raise ApiRefused(422, "Invalid request.\n\nFor 'properties/permissions', it is not an object.")
        for name, access in permissions.items():
            granted = installation.permissions.get(name)
            if granted is None or order.index(access) > order.index(granted):
                raise ApiRefused(422, "The permissions requested are not granted to this installation.")

    def _revoke(self, request: ApiRequest) -> ApiAnswer:
        self._tokens.revoke(request.token.value)
        return ApiAnswer(status=204)
