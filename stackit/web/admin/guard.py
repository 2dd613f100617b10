"""Protect the admin side: check ``Host``, the bearer token, and the header against cross-site requests."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Sequence

from stackit.api.admin import RequestHead, Response, error

_SAFE_METHODS = {b"GET", b"HEAD", b"OPTIONS", b"TRACE"}
_OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{0,5})?", re.ASCII)


class Guard:
    """The checks of a request to the admin side.

    ``tokens`` returns the bearer tokens that are valid now. If it is None, no token is needed; if it returns none,
    every request is refused. ``hosts`` are names of the listener beside its own, as in ``Host``; their port is ignored.
    """

    def __init__(
        self,
        *,
        tokens: Callable[[], Sequence[str]] | None,
        hosts: Collection[str],
        label: Callable[[str], str] = lambda _: "a token",
    ) -> None:
        """``label`` returns the name of a token for people."""
        self._tokens = tokens
        self._label = label
        self._hosts = _OWN_NAMES | {name for name in map(_name, hosts) if name is not None}

    def refuse(self, head: RequestHead, address: str) -> Response | None:
        """Return the answer that refuses the request, or None. ``address`` is the local address of the connection."""
        unknown = self.refuse_host(head, address)
        if unknown is not None:
            return unknown
        if not self._has_token(head):
            refusal = error(401, "a bearer token is needed: send Authorization: Bearer TOKEN")
            return Response(status=401, body=refusal.body, headers={"WWW-Authenticate": 'Bearer realm="stackit"'})
        if head.method not in _SAFE_METHODS and head.headers.get(b"x-stackit-csrf") != (b"1",):
            return error(403, "this method needs the header X-Stackit-CSRF: 1")
        return None

    def refuse_host(self, head: RequestHead, address: str) -> Response | None:
        """Return the answer that refuses a request for a host that this is not, or None."""
        if self._known_host(head, address):
            return None
        return error(421, "unknown Host: use the listener's own name, or add yours to admin.hosts")

    def _known_host(self, head: RequestHead, address: str) -> bool:
        # A page whose name resolves to this address (DNS rebinding) sends its own name as Host. The port does not
        # matter: it gains nothing by choosing one, and a forwarded port differs from the listener's.
        values = head.headers.get(b"host", ())
        name = _name(values[0].decode("latin-1")) if len(values) == 1 else None
        return name is not None and (name in self._hosts or name == address.lower())

    def caller(self, head: RequestHead) -> str | None:
        """Return the name of the token of a request that was not refused; None where no token is needed."""
        return None if self._tokens is None else next(map(self._label, self._matching(head)), None)

    def _has_token(self, head: RequestHead) -> bool:
        return self._tokens is None or bool(self._matching(head))

    def _matching(self, head: RequestHead) -> list[str]:
        """Return the valid tokens that a request has: one, or none."""
        if self._tokens is None:
            return []
        values = head.headers.get(b"authorization", ())
        scheme, _, given = values[0].partition(b" ") if len(values) == 1 else (b"", b"", b"")
        # Every token is compared, so that the time of the answer does not tell which one matched.
        found = [each for each in self._tokens() if hmac.compare_digest(given.strip(), each.encode()) and each]
        return found if scheme.lower() == b"bearer" else []


def _name(host: str) -> str | None:
    """Return the name or address in a ``Host`` header, without port and brackets; None where it is malformed."""
    match = _HOST.fullmatch(host)
    return (match["ipv6"] or match["name"]).lower() if match is not None else None
