"""The parts of a URL that a request needs."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import msgspec

from stackit.http.client.connector import Address

_PORTS = {"http": 80, "https": 443}


class Target(msgspec.Struct, frozen=True):
    """The target of a request. ``host`` is the value of its Host header; ``path`` has the query, and only ASCII."""

    address: Address
    host: str
    path: str


def parse_url(url: str) -> Target:
    """Return the target of an ``http`` or ``https`` URL; its fragment does not count. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("expected http://HOST/… or https://HOST/…")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong in a URL: send an Authorization header")
    name = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
    if quote(name, safe=":") != name:
        raise ValueError(f"{name!r} is no name of a host")
    shown = f"[{name}]" if ":" in name else name
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = f"?{quote(parts.query, safe='/%:@!$&()*+,;=~?')}" if parts.query else ""
    return Target(
        (parts.scheme, name, parts.port or _PORTS[parts.scheme]),
        shown if parts.port is None else f"{shown}:{parts.port}",
        f"{path}{query}",
    )
