"""The origin of a page, as a browser tells it: a scheme, a host and a port."""

from __future__ import annotations

import re

import msgspec

from stackit.config.checks import HOST, is_loopback

_ORIGIN = re.compile(rf"(?P<scheme>https?)://(?P<host>{HOST})(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII)
_HOST_HEADER = re.compile(rf"(?P<host>{HOST})(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII)
_PORTS = {"http": 80, "https": 443}


class Origin(msgspec.Struct, frozen=True):
    """An origin. ``host`` is in small letters, and without brackets."""

    scheme: str
    host: str
    port: int

    @property
    def text(self) -> str:
        """Return it as a header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return whether only this machine reaches it."""
        return is_loopback(self.host)


def parse_origin(text: str) -> Origin | None:
    """Return the origin that a header ``Origin`` tells, None for ``null`` and what is none."""
    match = _ORIGIN.fullmatch(text)
    return None if match is None else _origin(match["scheme"], match)


def origin_of_url(url: str) -> Origin | None:
    """Return the origin of a URL, None where it has none."""
    match = _ORIGIN.match(url)
    return None if match is None else _origin(match["scheme"], match)


def origin_of_host(host: str, scheme: str) -> Origin | None:
    """Return the origin that a header ``Host`` tells of a page of a scheme; None for a malformed one."""
    match = _HOST_HEADER.fullmatch(host)
    return None if match is None else _origin(scheme, match)


def _origin(scheme: str, match: re.Match[str]) -> Origin:
    return Origin(scheme, match["host"].lower().strip("[]"), int(match["port"] or _PORTS[scheme]))
