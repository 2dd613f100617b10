"""Find the admin route of a path: exactly, and independent of the order in which routes were declared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import unquote_to_bytes

import msgspec

from stackit.api.admin import Route
from stackit.api.errors import PluginError, StackitError
from stackit.api.schema import Parameter
from stackit.web.prefixes import expand

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that ask for no change (RFC 9110, 9.2.1)."""

_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
_ARGUMENT = re.compile(r"\{([a-z_]{1,40})\}", re.ASCII)
_LITERAL = re.compile(r"[A-Za-z0-9._~-]+", re.ASCII)
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class PathEntry(msgspec.Struct, frozen=True):
    """One path of the routing table, with its routes.

    ``pattern`` has one item for each segment: its text, or None for a segment that is an argument.
    ``routes`` has, for each method, its route and the names of its arguments.
    """

    pattern: tuple[str | None, ...]
    routes: dict[str, tuple[Route, tuple[str, ...]]]

    @property
    def allow(self) -> str:
        """The value of the ``Allow`` header."""
        methods = set(self.routes)
        if "GET" in methods:
            methods.add("HEAD")
        return ", ".join(sorted(methods))

    @property
    def allow_reading(self) -> str:
        """The value of the ``Allow`` header while nothing may be changed."""
        return ", ".join(method for method in self.allow.split(", ") if self.reads(method))

    def reads(self, method: str) -> bool:
        """Return whether a method of this path changes nothing, or what may change even then."""
        return method in SAFE_METHODS or self.routes[method][0].when_read_only


class Match(msgspec.Struct, frozen=True):
    """The entry that matches a path, and the values of its arguments, percent-decoded."""

    entry: PathEntry
    values: tuple[str, ...]

    def route(self, method: str) -> tuple[Route, Mapping[str, str]] | None:
        """Return the route of a method and its ``args``; None where the path does not answer the method."""
        found = self.entry.routes.get("GET" if method == "HEAD" else method)
        if found is None:
            return None
        route, names = found
        return route, dict(zip(names, self.values, strict=True))


class Router:
    """The routing table. Where several entries match a path, the one with literal text further left wins."""

    def __init__(self, routes: Iterable[Route], prefixes: Sequence[str]) -> None:
        """Raises StackitError for a route that cannot be served, or two for the same requests."""
        entries: dict[tuple[str | None, ...], PathEntry] = {}
        for route in routes:
            if not (isinstance(route.method, str) and isinstance(route.path, str) and callable(route.handler)):
                raise invalid(route, "a route is a method and a path, as text, and a function")
            if not _is_query(route.query):
                raise invalid(route, "its query must be a tuple of names and Parameters, or None")
            if not _METHOD.fullmatch(route.method):
                raise invalid(route, "the method must be upper-case letters")
            if route.form is not False and (route.form is not True or route.method != "POST"):
                raise invalid(route, "only a POST can be a form, which is True or False")
            if route.open is not False and (route.open is not True or not (route.method == "GET" or route.form)):
                raise invalid(route, "only a GET or a form can be open, which is True or False")
            if route.node not in ("any", "mirror", "leader") or (route.node != "any" and (route.open or route.form)):
                raise invalid(route, "its node must be any, mirror or leader; that of an open route or a form is any")
            for path in expand(route.path, prefixes):
                pattern, names = _parse(route, path)
                if route.node == "mirror" and not {"owner", "name"} <= {*names}:
                    raise invalid(route, "its node can be mirror only where the path has {owner} and {name}")
                entry = entries.setdefault(pattern, PathEntry(pattern, {}))
                if route.method in entry.routes:
                    raise invalid(route, f"{entry.routes[route.method][0].path} is served already")
                entry.routes[route.method] = (route, names)
        self._entries = sorted(entries.values(), key=lambda entry: [segment is None for segment in entry.pattern])

    def find(self, path: bytes) -> Match | None:
        """Return the match of a path as it stands in the request line, without the query; None where none matches."""
        if not path.startswith(b"/"):
            return None
        segments = path[1:].split(b"/")
        for entry in self._entries:
            values = _values(entry.pattern, segments)
            if values is not None:
                return Match(entry, values)
        return None


def _is_query(names: object) -> bool:
    return names is None or (isinstance(names, tuple) and all(isinstance(each, str | Parameter) for each in names))


def _parse(route: Route, path: str) -> tuple[tuple[str | None, ...], tuple[str, ...]]:
    pattern: list[str | None] = []
    names: list[str] = []
    if not path.startswith("/"):
        raise invalid(route, "the path must begin with / or {prefix}/")
    for segment in path[1:].split("/"):
        if argument := _ARGUMENT.fullmatch(segment):
            pattern.append(None)
            names.append(argument[1])
        elif _LITERAL.fullmatch(segment) or path == "/":
            pattern.append(segment)
        else:
            raise invalid(route, f"{segment!r} is neither a plain segment nor a name in braces")
    if len(set(names)) != len(names):
        raise invalid(route, "a name in braces occurs twice")
    return tuple(pattern), tuple(names)


def invalid(route: Route, reason: str) -> StackitError:
    """Return the error for a route that cannot be served."""
    shown = isinstance(route.method, str) and isinstance(route.path, str)
    where = f"admin route {route.method} {route.path}" if shown else "admin route"
    return PluginError(route.plugin, f"{where}: {reason}") if route.plugin else StackitError(f"{where}: {reason}")


def _values(pattern: tuple[str | None, ...], segments: list[bytes]) -> tuple[str, ...] | None:
    """Return the values of the arguments; None where the segments do not match the pattern."""
    if len(pattern) != len(segments):
        return None
    values = []
    for wanted, segment in zip(pattern, segments, strict=True):
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
    # A broken escape, or bytes that are not UTF-8, would be read in different ways by different code.
    # An escaped slash would make two segments of one.
    if _BAD_ESCAPE.search(segment):
        return None
    try:
        value = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError:
        return None
    return value if value and "/" not in value else None
