"""Routes of webhooks: those of an App, of an organization, of a repository."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from stackit.testing.github_api import hook_objects
from stackit.testing.github_api.answers import ApiAnswer, ApiRefused, ApiRequest, forbidden, not_found
from stackit.testing.github_api.delivery_pages import delivery_of, delivery_page
from stackit.testing.github_api.hook_edits import check_room, events_of, invalid, merge_config, whole_config
from stackit.testing.github_api.hooks import Hook, HookKind, Hooks
from stackit.testing.github_api.owners import Owners
from stackit.testing.github_api.paging import page_of
from stackit.testing.github_api.repositories import Repositories
from stackit.testing.github_api.router import Router
from stackit.testing.github_api.routes.lookup import repository_named
from stackit.testing.objects import Json

_ORGANIZATION = "/orgs/{org}/hooks"
_REPOSITORY = "/repos/{owner}/{repo}/hooks"


class _Place(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Whose webhooks a request is about. ``about``: the repository or the organization, as their events carry it."""

    kind: HookKind
    target: int
    about: Json
    shown: Callable[[Hook], Json]


class HookRoutes:
    """Serves them. A token needs ``organization_hooks`` or ``repository_hooks``."""

    def __init__(self, hooks: Hooks, owners: Owners, repositories: Repositories) -> None:
        self._hooks = hooks
        self._owners = owners
        self._repositories = repositories

    def add_to(self, router: Router) -> None:
        """Add every route."""
        router.add("GET", "/app/hook/config", self._app_config, access="app")
        router.add("PATCH", "/app/hook/config", self._change_app_config, access="app")
        router.add("GET", "/app/hook/deliveries", self._app_deliveries, access="app")
        router.add("GET", "/app/hook/deliveries/{delivery_id}", self._app_delivery, access="app")
        router.add("POST", "/app/hook/deliveries/{delivery_id}/attempts", self._app_attempt, access="app")
        for base in (_ORGANIZATION, _REPOSITORY):
            one = f"{base}/{{hook_id}}"
            router.add("GET", base, self._list, access="token")
            router.add("POST", base, self._create, access="token")
            router.add("GET", one, self._get, access="token")
            router.add("PATCH", one, self._change, access="token")
            router.add("DELETE", one, self._delete, access="token")
            router.add("GET", f"{one}/config", self._config, access="token")
            router.add("PATCH", f"{one}/config", self._change_config, access="token")
            router.add("POST", f"{one}/pings", self._ping, access="token")
            router.add("GET", f"{one}/deliveries", self._deliveries, access="token")
            router.add("GET", f"{one}/deliveries/{{delivery_id}}", self._delivery, access="token")
            router.add("POST", f"{one}/deliveries/{{delivery_id}}/attempts", self._attempt, access="token")

    # The webhook of an App, which is asked for by its JWT

    def _app_config(self, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(body=self._hooks.of_app(request.app).config.shown())

    def _change_app_config(self, request: ApiRequest) -> ApiAnswer:
        hook = self._hooks.of_app(request.app)
        self._merge(hook, request)
        return ApiAnswer(body=hook.config.shown())

    def _app_deliveries(self, request: ApiRequest) -> ApiAnswer:
        return delivery_page(request, self._hooks.of_app(request.app).deliveries)

    def _app_delivery(self, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(body=delivery_of(request, self._hooks.of_app(request.app).deliveries).whole())

    def _app_attempt(self, request: ApiRequest) -> ApiAnswer:
        return self._again(request, self._hooks.of_app(request.app))

    # Those of organizations and repositories

    def _list(self, request: ApiRequest) -> ApiAnswer:
        place = self._place(request, "read")
        hooks, headers = page_of(request, self._hooks.of(place.kind, place.target))
        return ApiAnswer(body=[place.shown(each) for each in hooks], headers=headers)

    def _create(self, request: ApiRequest) -> ApiAnswer:
        place, given = self._place(request, "write"), request.object()
        if given.get("name", "web") != "web":
            raise invalid("Hook", "name", "name must be passed as 'web'")
        config, events = whole_config(given.get("config")), events_of(given.get("events"), ["push"])
        check_room(self._hooks.of(place.kind, place.target), config, events, place.kind)
        hook = self._hooks.create(place.kind, place.target, config, events=events)
        hook.active = bool(given.get("active", True))
        self._hooks.begin(hook, "ping", hook_objects.ping(hook, place.shown(hook), place.about))
        return ApiAnswer(status=201, body=place.shown(hook))

    def _get(self, request: ApiRequest) -> ApiAnswer:
        place, hook = self._one(request, "read")
        return ApiAnswer(body=place.shown(hook))

    def _change(self, request: ApiRequest) -> ApiAnswer:
        place, hook = self._one(request, "write")
        given = request.object()
        if "config" in given:  # the whole of it: a secret that is not sent again is gone
            hook.config = whole_config(given["config"])
        hook.active = bool(given.get("active", hook.active))
        events = events_of(given.get("events"), hook.events or [])
        added, removed = given.get("add_events"), given.get("remove_events")
        events += [each for each in events_of(added, []) if each not in events]
        hook.events = [each for each in events if each not in events_of(removed, [])]
        self._hooks.changed(hook)
        return ApiAnswer(body=place.shown(hook))

    def _delete(self, request: ApiRequest) -> ApiAnswer:
        place, hook = self._one(request, "write")
        if hook.wants("meta"):
            kind = "Organization" if place.kind == "organization" else "Repository"
            self._hooks.begin(hook, "meta", hook_objects.meta(hook, kind, place.about))
        self._hooks.remove(hook)
        return ApiAnswer(status=204)

    def _config(self, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(body=self._one(request, "read")[1].config.shown())

    def _change_config(self, request: ApiRequest) -> ApiAnswer:
        hook = self._one(request, "write")[1]
        self._merge(hook, request)
        return ApiAnswer(body=hook.config.shown())

    def _ping(self, request: ApiRequest) -> ApiAnswer:
        # A repository's may be pinged by those who may read it ("Webhooks" repository permissions: read).
        place, hook = self._one(request, "write" if "org" in request.parameters else "read")
        self._hooks.begin(hook, "ping", hook_objects.ping(hook, place.shown(hook), place.about))
        return ApiAnswer(status=204)

    def _deliveries(self, request: ApiRequest) -> ApiAnswer:
        return delivery_page(request, self._one(request, "read")[1].deliveries)

    def _delivery(self, request: ApiRequest) -> ApiAnswer:
        return ApiAnswer(body=delivery_of(request, self._one(request, "read")[1].deliveries).whole())

    def _attempt(self, request: ApiRequest) -> ApiAnswer:
        return self._again(request, self._one(request, "write")[1])

    # What they share

    def _again(self, request: ApiRequest, hook: Hook) -> ApiAnswer:
        self._hooks.begin_again(hook, delivery_of(request, hook.deliveries))
        return ApiAnswer(status=202, body={})

    def _merge(self, hook: Hook, request: ApiRequest) -> None:
        merge_config(hook.config, request.object())
        self._hooks.changed(hook)

    def _place(self, request: ApiRequest, access: str) -> _Place:
        """Return whose webhooks the path names. Raises ApiRefused for a token that may not."""
        token = request.token
        if "org" in request.parameters:
            owner = self._owners.find(request.parameters["org"])
            if owner is None or owner.kind != "Organization" or token.owner is not owner:
                raise not_found()
            self._check(request, "organization_hooks", access)
            return _Place(
                kind="organization",
                target=owner.id,
                about={"organization": owner.organization()},
                shown=lambda hook: hook_objects.of_organization(hook, owner, request.api_url),
            )
        repository = repository_named(request, self._repositories)
        if not token.reaches(repository):
            raise not_found()
        self._check(request, "repository_hooks", access)
        return _Place(
            kind="repository",
            target=repository.id,
            about={"repository": repository.json(request.site_url)},
            shown=lambda hook: hook_objects.of_repository(hook, repository, request.api_url),
        )

    def _check(self, request: ApiRequest, permission: str, access: str) -> None:
        if request.token.may(permission, access):
            return
        if request.token.installation is not None:
            raise forbidden()
        raise ApiRefused(403, "Resource not accessible by personal access token")

    def _one(self, request: ApiRequest, access: str) -> tuple[_Place, Hook]:
        """Return the webhook that the path names. Raises ApiRefused."""
        place = self._place(request, access)
        number = request.parameters["hook_id"]
        hook = self._hooks.get(int(number)) if number.isascii() and number.isdigit() else None
        if hook is None or hook.kind != place.kind or hook.target != place.target:
            raise not_found()
        return place, hook
