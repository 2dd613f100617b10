"""The cookie of a session.

Over https it is ``__Host-stackit``: the browser takes it from this very host alone, for no other host, and over https
only. Over plain http, which loopback alone may use, it is ``stackit-PORT``: cookies are not kept apart by port, and two
stackits on one machine are two.
"""

from __future__ import annotations

from stackit.api.admin import RequestHead
from stackit.web.sessions.origins import Origin, origin_of_host, origin_of_url

SECURE = "__Host-stackit"
_COMMON = "Path=/; HttpOnly; SameSite=Lax"


class Cookies:
    """Reads and writes cookies. ``url`` is where browsers reach the admin side, None for where it listens."""

    def __init__(self, url: str | None) -> None:
        own = None if url is None else origin_of_url(url)
        # A cookie that other hosts can plant is not even read where nobody needs it.
        self._allows_plain = own is None or own.scheme == "http"

    def fits(self, origin: Origin) -> bool:
        """Return whether a page of an origin may have a cookie: one over https, or on this machine."""
        return origin.scheme == "https" or (self._allows_plain and origin.is_loopback)

    def read(self, head: RequestHead) -> str | None:
        """Return the token in the cookie of a request; None without one, and where there are several."""
        headers = head.headers.get(b"cookie", ())
        if len(headers) != 1:
            return None
        names = {SECURE}
        hosts = head.headers.get(b"host", ())
        page = origin_of_host(hosts[0].decode("latin-1"), "http") if len(hosts) == 1 else None
        if page is not None and self.fits(page):
            names.add(_plain(page))
        pairs = (pair.strip().partition("=") for pair in headers[0].decode("latin-1").split(";"))
        found = [value for name, _, value in pairs if name in names]
        return found[0] if len(found) == 1 and found[0] else None

    def write(self, token: str, origin: Origin, lifetime: float) -> str:
        """Return ``Set-Cookie`` for the page of an origin. ``lifetime`` is in seconds."""
        if origin.scheme == "https":
            return f"{SECURE}={token}; {_COMMON}; Max-Age={int(lifetime)}; Secure"
        return f"{_plain(origin)}={token}; {_COMMON}; Max-Age={int(lifetime)}"

    def clear(self, origin: Origin) -> str:
        """Return ``Set-Cookie`` that has the browser forget the cookie of an origin."""
        return self.write("", origin, 0)


def _plain(origin: Origin) -> str:
    return f"stackit-{origin.port}"
