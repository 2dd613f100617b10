"""What a webhook at GitHub should be: where it sends, how, and of which events it tells."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

from stackit.github.hooks.target import Kind

ALWAYS_OF_APPS = frozenset(
    {"github_app_authorization", "installation", "installation_repositories", "installation_target"}
)
"""Events that every App gets, and no other webhook. Nobody subscribes to them."""

_OF_ORGANIZATIONS = frozenset(
    {
        "custom_property",
        "membership",
        "org_block",
        "organization",
        "personal_access_token_request",
        "projects_v2",
        "projects_v2_item",
        "projects_v2_status_update",
        "team",
    }
)
"""Events that no repository's webhook gets."""

EVERYTHING = "*"


class WantedHook(msgspec.Struct, frozen=True, kw_only=True):
    """What webhooks should be. ``urls`` are right, the first is that of a new one; without any, no URL is compared.

    ``events`` are those that handlers want, ``*`` where one wants all.
    """

    urls: tuple[str, ...]
    content_type: str = "json"
    events: frozenset[str] = frozenset({"push"})

    def is_right(self, url: str) -> bool:
        """Return whether a webhook that sends to a URL sends here."""
        return not self.urls or _plain(url) in map(_plain, self.urls)

    def needed(self, kind: Kind) -> frozenset[str]:
        """Return the events that such a webhook has to tell of. A handler of all events makes do with what comes."""
        found = self.events - {EVERYTHING, "ping", "meta", *ALWAYS_OF_APPS}
        return found - _OF_ORGANIZATIONS if kind == "repo" else found

    def chosen(self, kind: Kind) -> list[str]:
        """Return the events of a new webhook. It also tells of its own deletion (``meta``)."""
        return [EVERYTHING] if EVERYTHING in self.events else sorted({*self.needed(kind), "meta"})


def wanted_hook(
    public_url: str | None, prefixes: Iterable[str], content_type: str, patterns: Iterable[str | None]
) -> WantedHook:
    """Return what webhooks should be.

    ``content_type`` is what is taken: ``any``, ``json`` or ``form``. ``patterns`` are the event names of the handlers'
    patterns, None for any.
    """
    base = None if public_url is None else public_url.rstrip("/")
    return WantedHook(
        urls=() if base is None else tuple(f"{base}{prefix}/webhooks/github" for prefix in prefixes),
        content_type="form" if content_type == "form" else "json",
        events=frozenset(EVERYTHING if name is None else name for name in patterns),
    )


def _plain(url: str) -> str:
    """Return a URL in one spelling: the host in small letters, no default port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return url
    port = None if (parts.scheme, port) in (("https", 443), ("http", 80)) else port
    host = (parts.hostname or "") + ("" if port is None else f":{port}")
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{parts.query}" if parts.query else "")
