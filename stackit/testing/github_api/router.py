"""The routes of the pretend API, to which modules of routes add theirs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

import msgspec

from stackit.testing.github_api.answers import Access, ApiAnswer, ApiRequest

Handler = Callable[[ApiRequest], ApiAnswer | Awaitable[ApiAnswer]]


class ApiRoute(msgspec.Struct, frozen=True, eq=False):
    """A route: ``template`` is as GitHub's documentation has it, ``/repos/{owner}/{repo}``."""

    method: str
    template: str
    handler: Handler
    access: Access
    web: bool
    pattern: re.Pattern[str]


class Router:
    """Finds the route of a request."""

    def __init__(self) -> None:
        self._routes: list[ApiRoute] = []

    def add(self, method: str, template: str, handler: Handler, *, access: Access = "any", web: bool = False) -> None:
        """Serve a route, which ``access`` may use. ``web``: at the root only, as a page of the site and no API.

        What is below ``/repos/{owner}/{repo}`` is served below ``/repositories/{id}`` as well, which is where a
        repository's former name leads.
        """
        templates = [template]
        if template.startswith("/repos/{owner}/{repo}"):
            templates.append("/repositories/{id}" + template.removeprefix("/repos/{owner}/{repo}"))
        for each in templates:
            self._routes.append(ApiRoute(method, template, handler, access, web, _pattern(each)))

    def find(self, method: str, path: str, *, web: bool) -> tuple[ApiRoute, Mapping[str, str]] | None:
        """Return the route of a path and its parameters, or None. ``web``: pages of the site count, too."""
        for route in self._routes:
            if route.method == method and (web or not route.web):
                found = route.pattern.fullmatch(path)
                if found is not None:
                    return route, {name: unquote(value) for name, value in found.groupdict().items()}
        return None


def _pattern(template: str) -> re.Pattern[str]:
    pieces = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(f"(?P<{piece}>[^/]+)" if index % 2 else re.escape(piece) for index, piece in enumerate(pieces))
    )
