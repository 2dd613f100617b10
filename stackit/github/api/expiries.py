"""The ends of personal tokens, as GitHub's answers state them."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from hashlib import sha256

HEADER = "github-authentication-token-expiration"
_FORMATS = ("%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%d %H:%M:%S %z")
_MOST = 1000


class TokenExpiries:
    """Remembers the end of each token that an answer told of; of the token itself, a digest only."""

    def __init__(self) -> None:
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def note(self, authorization: str, text: str | None) -> None:
        """Take the end of a token from an answer: ``text`` is that of its header, None for an answer without it."""
        if text is None or (end := parse_expiry(text)) is None:
            return
        digest = _digest(authorization)
        self._ends[digest] = end
        self._ends.move_to_end(digest)
        if len(self._ends) > _MOST:
            self._ends.popitem(last=False)

    def end_of(self, token: str) -> float | None:
        """Return when a token ends, in seconds since the epoch; None where no answer said so."""
        return self._ends.get(_digest(f"Bearer {token}")) if self._ends else None


def parse_expiry(text: str) -> float | None:
    """Return the time in such a header, in seconds since the epoch; None for what is none."""
    for each in _FORMATS:
        try:
            found = datetime.strptime(text.strip(), each)  # noqa: DTZ007 - the first form says UTC in words
        except ValueError:
            continue
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    return None


def _digest(authorization: str) -> bytes:
    return sha256(authorization.encode()).digest()
