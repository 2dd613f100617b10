"""Who may talk to the admin side: the right Host, a token, and no page of another origin."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Sequence

from stackit.api.admin import RequestHead, Response, error

_SAFE_METHODS = {b"GET", b"HEAD", b"OPTIONS", b"TRACE"}
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{0,5})?", re.ASCII)


class Guard:
    """The protections of the admin side, in the order in which they are asked.

    ``tokens`` returns the bearer tokens that are valid now; where it is None, no token is
    wanted. A guard whose tokens have all gone away lets nobody in. ``hosts`` are names that
    the listener has beside its own, as they stand in ``Host``; a port in them does not count.
    """

    def __init__(self, *, tokens: Callable[[], Sequence[str]] | None, hosts: Collection[str]) -> None:
        self._tokens = tokens
        self._hosts = _OWN_NAMES | {name for name in map(_name, hosts) if name is not None}

    def refuse(self, head: RequestHead, address: str) -> Response | None:
        """The answer that turns the request away, or None. ``address`` is the listener's end of the connection."""
        if not self._known_host(head, address):
            return error(421, "unknown Host: use the listener's own name, or add yours to admin.hosts")
        if not self._has_token(head):
            refusal = error(401, "a bearer token is needed: send Authorization: Bearer TOKEN")
            return Response(status=401, body=refusal.body, headers={"WWW-Authenticate": 'Bearer realm="stackit"'})
        if head.method not in _SAFE_METHODS and head.headers.get(b"x-stackit-csrf") != (b"1",):
            return error(403, "this method needs the header X-Stackit-CSRF: 1")
        return None

    def _known_host(self, head: RequestHead, address: str) -> bool:
        # A page whose own name resolves to our address (DNS rebinding) sends that name here.
        # It cannot choose its port to gain anything, and forwarded ports differ from ours: any port will do.
        values = head.headers.get(b"host", ())
        name = _name(values[0].decode("latin-1")) if len(values) == 1 else None
        return name is not None and (name in self._hosts or name == address.lower())

    def _has_token(self, head: RequestHead) -> bool:
        if self._tokens is None:
            return True
        values = head.headers.get(b"authorization", ())
        scheme, _, given = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        # Every token is compared, so that the time tells neither which nor how many there are.
        matches = [hmac.compare_digest(given.strip(), token.encode()) for token in self._tokens() if token]
        return scheme.lower() == b"bearer" and any(matches)


def _name(host: str) -> str | None:
    """The name or address in the value of a ``Host`` header, without port and brackets; None where it is none."""
    match = _HOST.fullmatch(host)
    return (match["ipv6"] or match["name"]).lower() if match is not None else None
