"""GitHub as a ``Forge``: github.com, Enterprise Cloud and Enterprise Server."""

from __future__ import annotations

import hmac
import re
from functools import lru_cache

from stackit.api.events import Event, Repo
from stackit.api.forge import GITHUB, Claim, Headers, Unrecognised
from stackit.github import signature
from stackit.github.actions import doubt
from stackit.github.event_types import PING
from stackit.github.names import parse_repo
from stackit.github.payloads import Encoding, decode, json_text

CLONE_URL = "https://github.com/{repo}.git"

_DELIVERY = re.compile(rb"[A-Za-z0-9-]{1,64}")
_HOOK = re.compile(rb"[0-9]{1,20}")


class GitHub:
    """GitHub's webhooks. ``accepts`` are the content types of which its deliveries may be."""

    name = GITHUB

    def __init__(self, accepts: Encoding = "any") -> None:
        self._accepts = accepts

    def mac(self, secret: bytes) -> hmac.HMAC:
        """Return the HMAC-SHA256 of no bytes."""
        return signature.mac(secret)

    def claim(self, headers: Headers) -> Claim | None:
        """Return the digest in ``X-Hub-Signature-256``."""
        digest = signature.parse(headers.get(signature.HEADER, ()))
        return None if digest is None else Claim(digest)

    def delivery(self, headers: Headers) -> str:
        """Return ``X-GitHub-Delivery``, a GUID."""
        values = headers.get(b"x-github-delivery", ())
        return values[0].decode("ascii") if len(values) == 1 and _DELIVERY.fullmatch(values[0]) else ""

    def hook(self, headers: Headers) -> str:
        """Return ``X-GitHub-Hook-ID``, a number."""
        values = headers.get(b"x-github-hook-id", ())
        return _hook(values[0]) if len(values) == 1 else ""

    def decode(
        self, headers: Headers, body: bytes, *, delivery: str, hook: str, received_at: float
    ) -> Event | Unrecognised:
        """Return the event that ``X-GitHub-Event`` names, if the body is one of it."""
        names = headers.get(b"x-github-event", ())
        if len(names) != 1:
            return "event_name"
        types = headers.get(b"content-type", ())
        text = None if len(types) > 1 else json_text(body, types[0] if types else None, self._accepts)
        if text is None:
            return "content_type"
        name = names[0].decode("latin-1")
        event = decode(name, text, id="", delivery=delivery, hook=hook, received_at=received_at)
        return "shape" if event is None else event

    def is_ping(self, event: Event) -> bool:
        """Return whether this is the ``ping`` that GitHub sends when a webhook is made."""
        return event.name == PING

    def restore(
        self,
        name: str,
        body: bytes,
        *,
        id: str,  # noqa: A002 - the field of Event
        delivery: str,
        hook: str,
        received_at: float,
    ) -> Event | None:
        """Return the event of a body that was decoded once."""
        return decode(name, body, id=id, delivery=delivery, hook=hook, received_at=received_at)

    def doubt(self, name: str, action: str | None) -> str | None:
        """Return why GitHub's documentation has no event of this name and action; None where it has."""
        return doubt(name, action)

    def repo(self, name: str) -> Repo:
        """Return the repository ``owner/name``. Raises ValueError where GitHub does not allow the name."""
        return parse_repo(name)

    def clone_url(self, repo: Repo) -> str:
        """Return the HTTPS URL of a repository on github.com."""
        return CLONE_URL.format(repo=repo)


@lru_cache(maxsize=256)
def _hook(value: bytes) -> str:
    """Decode the id of a hook. Cached, because few hooks send all deliveries."""
    return value.decode("ascii") if _HOOK.fullmatch(value) else ""
