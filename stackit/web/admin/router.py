"""Which admin route answers a path: exact, and the same whatever order the routes came in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote_to_bytes

import msgspec

from stackit.api.admin import Route
from stackit.api.errors import PluginError, StackitError

_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
_ARGUMENT = re.compile(r"\{([a-z_]{1,40})\}", re.ASCII)
_LITERAL = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_PREFIX = "{prefix}"


class Place(msgspec.Struct, frozen=True):
    """One path and every method it answers; a segment that is None in ``shape`` matches any."""

    shape: tuple[str | None, ...]
    routes: dict[str, tuple[Route, tuple[str, ...]]]

    @property
    def allow(self) -> str:
        """The value of the ``Allow`` header."""
        methods = set(self.routes)
        if "GET" in methods:
            methods.add("HEAD")
        return ", ".join(sorted(methods))


class Found(msgspec.Struct, frozen=True):
    """A place and the text of the segments that its shape leaves open."""

    place: Place
    values: tuple[str, ...]

    def route(self, method: str) -> tuple[Route, Mapping[str, str]] | None:
        """The route for a method and its ``args``; None where the path has no such method."""
        entry = self.place.routes.get("GET" if method == "HEAD" else method)
        if entry is None:
            return None
        route, names = entry
        return route, dict(zip(names, self.values, strict=True))


class Router:
    """Finds the place of a path. Where several fit, the one with a literal further left wins."""

    def __init__(self, routes: Iterable[Route], prefixes: Sequence[str]) -> None:
        """Raises StackitError for a route that cannot be served, or two that want the same requests."""
        places: dict[tuple[str | None, ...], Place] = {}
        for route in routes:
            if not (isinstance(route.method, str) and isinstance(route.path, str) and callable(route.handler)):
                raise _refused(route, "a route is a method and a path, as text, and a function")
            if not _METHOD.fullmatch(route.method):
                raise _refused(route, "the method must be upper-case letters")
            for path in dict.fromkeys(_expand(route.path, prefixes)):
                shape, names = _parse(route, path)
                place = places.setdefault(shape, Place(shape, {}))
                if route.method in place.routes:
                    raise _refused(route, f"{place.routes[route.method][0].path} is served already")
                place.routes[route.method] = (route, names)
        self._places = sorted(places.values(), key=lambda place: [segment is None for segment in place.shape])

    def find(self, path: bytes) -> Found | None:
        """The place of a path as it stands in the request line, without the query."""
        if not path.startswith(b"/"):
            return None
        segments = path[1:].split(b"/")
        for place in self._places:
            values = _match(place.shape, segments)
            if values is not None:
                return Found(place, values)
        return None


def _expand(path: str, prefixes: Sequence[str]) -> list[str]:
    if not path.startswith(_PREFIX):
        return [path]
    return [prefix + path.removeprefix(_PREFIX) for prefix in prefixes]


def _parse(route: Route, path: str) -> tuple[tuple[str | None, ...], tuple[str, ...]]:
    shape: list[str | None] = []
    names: list[str] = []
    if not path.startswith("/"):
        raise _refused(route, "the path must begin with / or {prefix}/")
    for segment in path[1:].split("/"):
        if argument := _ARGUMENT.fullmatch(segment):
            shape.append(None)
            names.append(argument[1])
        elif _LITERAL.fullmatch(segment):
            shape.append(segment)
        else:
            raise _refused(route, f"{segment!r} is neither a plain segment nor a name in braces")
    if len(set(names)) != len(names):
        raise _refused(route, "a name in braces occurs twice")
    return tuple(shape), tuple(names)


def _refused(route: Route, reason: str) -> StackitError:
    shown = isinstance(route.method, str) and isinstance(route.path, str)
    where = f"admin route {route.method} {route.path}" if shown else "admin route"
    return PluginError(route.plugin, f"{where}: {reason}") if route.plugin else StackitError(f"{where}: {reason}")


def _match(shape: tuple[str | None, ...], segments: list[bytes]) -> tuple[str, ...] | None:
    if len(shape) != len(segments):
        return None
    values = []
    for wanted, segment in zip(shape, segments, strict=True):
        if wanted is not None:
            if wanted.encode() != segment:
                return None
            continue
        value = _decode(segment)
        if value is None:
            return None
        values.append(value)
    return tuple(values)


def _decode(segment: bytes) -> str | None:
    # An escape that is no escape, or bytes that are no UTF-8, could be read in more than one
    # way further on; a slash would make one segment look like two.
    if _BAD_ESCAPE.search(segment):
        return None
    try:
        value = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return value if value and "/" not in value else None
