"""The address of an API: paths filled in below it, and links that may be followed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode, urljoin, urlsplit

_PLACE = re.compile(r"\{(\w+)\}", re.ASCII)
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_RELATION = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_SECRET = frozenset({"code"})
"""Values of paths that nobody may see: the code of an App's manifest is exchanged for its key."""


class ApiUrl:
    """The address of an API, such as ``https://api.github.com`` or ``https://git.example.org/api/v3``."""

    def __init__(self, url: str) -> None:
        """Raises ValueError for what is no URL of ``http`` or ``https``, or has a user, a query or a fragment."""
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
            raise ValueError("expected a URL such as https://api.github.com, or https://HOST/api/v3")
        if parts.query or parts.fragment:
            raise ValueError("expected a URL without query and fragment")
        self.text = url.rstrip("/")
        self.name = parts.netloc
        """The host, and the port if there is one: for people."""
        self._origin = _origin(url)
        self._path = parts.path.rstrip("/")

    def fill(
        self, route: str, values: Mapping[str, object], params: Mapping[str, str | int | bool] | None = None
    ) -> str:
        """Return the URL of a route such as ``/repos/{owner}/{repo}``, filled with values and followed by a query.

        Raises ValueError for a value that is missing, is not in the route, or would leave its place in the path.
        """
        places = _PLACE.findall(route)
        if not route.startswith("/") or set(places) != set(values):
            raise ValueError(f"the route {route} takes {', '.join(places) or 'no values'}, not {', '.join(values)}")
        path = _PLACE.sub(lambda place: _segment(place[1], values[place[1]]), route)
        query = {
            name: str(value).lower() if isinstance(value, bool) else value for name, value in (params or {}).items()
        }
        return f"{self.text}{path}?{urlencode(query)}" if query else f"{self.text}{path}"

    @staticmethod
    def shown(route: str, values: Mapping[str, object]) -> str:
        """Return the path of a route for people, without what is secret in it."""
        return _PLACE.sub(lambda place: "***" if place[1] in _SECRET else str(values.get(place[1], place[0])), route)

    def follow(self, link: str, at: str) -> str | None:
        """Return the URL that a link in the answer of ``at`` leads to; None where it leaves the API."""
        try:
            target = urljoin(at, link)
            parts = urlsplit(target)
            inside = _origin(target) == self._origin and parts.username is None
        except ValueError:
            return None
        path = parts.path
        if not inside or not path.startswith(f"{self._path}/") or "/../" in f"{path}/" or not target.isascii():
            return None
        return target.partition("#")[0]


def next_link(header: str | None) -> str | None:
    """Return the address of the next page that a ``Link`` header names; None on the last page."""
    for address, parameters in _LINK.findall(header or ""):
        relation = _RELATION.search(parameters)
        if relation is not None and "next" in (relation[1] or relation[2] or "").lower().split():
            return str(address)
    return None


def _segment(name: str, value: object) -> str:
    text = str(value)
    if text in ("", ".", ".."):
        raise ValueError(f"{name} cannot be {text!r} in a path")
    return quote(text, safe="")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("neither http nor https")
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]
