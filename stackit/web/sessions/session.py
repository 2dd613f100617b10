"""A session as it is kept, and the token that only its owner has."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Literal

import msgspec

from stackit.api.person import Person

Kind = Literal["browser", "shell"]
"""Where the token of a session is: in a cookie, or in a file that shell commands send as a bearer token."""

PREFIX = "stks_"
"""The beginning of every token, by which people and scanners know it."""
_BYTES = 32
_TOKEN = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9_-]{43}", re.ASCII)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A session.

    ``key`` is the SHA-256 of its token, in hex; the token itself is kept nowhere. Times are seconds since the epoch.
    ``person`` and ``seen_at`` are as of its begin, and later ones kept beside it.
    ``proof`` binds it to the bearer token by which somebody logged in ("" for others): see ``proof_of``.
    """

    key: str
    person: Person
    kind: Kind
    created_at: float
    seen_at: float
    proof: str = ""


def new_token() -> str:
    """Return a token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(_BYTES)


def is_token(text: str) -> bool:
    """Return whether a text has the form of a token."""
    return _TOKEN.fullmatch(text) is not None


def key_of(token: str) -> str:
    """Return the key of the session that a token belongs to."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def csrf_of(token: str) -> str:
    """Return the value that forms of a session send back. It tells nothing of the token."""
    return _digest(token, "csrf")


def proof_of(token: str, bearer_token: str) -> str:
    """Return what binds a session to a bearer token. Without the session's token nobody can try bearer tokens on it."""
    return _digest(token, f"bearer {bearer_token}")


def _digest(token: str, text: str) -> str:
    return hmac.new(token.encode("utf-8", "surrogatepass"), text.encode(), hashlib.sha256).hexdigest()
