"""Logins by a browser that are under way: it left for GitHub, and has to come back.

Nothing is kept of them, so nobody can fill a store with attempts that never end. The browser gets a cookie with a
random number; ``state`` and the PKCE verifier are keyed hashes of it. So a ``state`` is of use only beside the cookie
of the very browser that it was made for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable

import msgspec

OPEN_FOR = 600.0
"""Seconds that a browser may take: as long as GitHub's code is valid."""
_BYTES = 32
_MOST_USED = 10_000
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}\.[0-9]{1,12}\.[A-Za-z0-9_-]{0,2000}", re.ASCII)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A login that is under way. ``following`` is the path to go to at its end."""

    cookie: str
    state: str
    verifier: str
    following: str

    @property
    def challenge(self) -> str:
        """Return the challenge of PKCE, by the method S256."""
        return _base64(hashlib.sha256(self.verifier.encode()).digest())

    def __repr__(self) -> str:
        return f"Attempt(following={self.following!r})"


class Attempts:
    """Makes attempts, and knows its own again within the time; each is of use once.

    ``now`` is the wall clock, ``key`` returns the secret that they are made with, which all nodes of a fleet have.

    Who makes many attempts pushes out what is known of their own old ones: it keeps nobody else from logging in.
    """

    def __init__(self, now: Callable[[], float], key: Callable[[], bytes]) -> None:
        self._now = now
        self._key = key
        self._used: dict[str, float] = {}

    def begin(self, following: str) -> Attempt:
        """Return an attempt for one browser."""
        end = int(self._now() + OPEN_FOR)
        return self._of(f"{_base64(secrets.token_bytes(_BYTES))}.{end}.{_base64(following.encode())}", following)

    def find(self, cookie: str, state: str) -> Attempt | None:
        """Return the attempt of a browser that comes back; None where it is no such browser, too late, or again."""
        if not _COOKIE.fullmatch(cookie):
            return None
        _, end, packed = cookie.split(".")
        now = self._now()
        right = hmac.compare_digest(state.encode("utf-8", "surrogatepass"), self._hash("state", cookie).encode())
        if not right or now >= int(end) or state in self._used:
            return None
        # The state is the proof that all of the cookie was made here.
        return self._of(cookie, base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode())

    def use(self, attempt: Attempt) -> None:
        """Have an attempt be of no use again."""
        now = self._now()
        self._used = {state: until for state, until in self._used.items() if now < until}
        if len(self._used) >= _MOST_USED:
            del self._used[next(iter(self._used))]
        self._used[attempt.state] = now + OPEN_FOR

    def _of(self, cookie: str, following: str) -> Attempt:
        return Attempt(
            cookie=cookie,
            state=self._hash("state", cookie),
            verifier=self._hash("verifier", cookie),
            following=following,
        )

    def _hash(self, use: str, cookie: str) -> str:
        return _base64(hmac.new(self._key(), f"{use} {cookie}".encode(), hashlib.sha256).digest())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
