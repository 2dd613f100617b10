"""Logins by a code that are under way: each waits for a person to enter it at GitHub."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

import msgspec

from stackit.github.login.oauth import DeviceCodes
from stackit.text.addresses import client_network

MOST = 256
"""Shells that may wait at once."""
MOST_OF_ONE = 8
"""Shells of one address (of IPv6: a network) that may wait at once: another one takes the place of the first."""
_BYTES = 32


class Device(msgspec.Struct, kw_only=True, eq=False):
    """A login that waits. ``next_at`` is when GitHub may be asked again, by the reactor's clock.

    ``following`` is the path that a browser goes to at its end.
    """

    codes: DeviceCodes
    client: str
    ends_at: float
    interval: float
    next_at: float
    following: str = "/"
    is_asking: bool = False


class Devices:
    """The shells that wait, by the digest of a random key that each was given.

    ``seconds`` is the reactor's clock; ``mark`` returns a key with the mark of this node.
    """

    def __init__(self, seconds: Callable[[], float], mark: Callable[[str], str]) -> None:
        self._seconds = seconds
        self._mark = mark
        self._waiting: dict[str, Device] = {}

    def make_room(self, client: str) -> bool:
        """Return whether one more shell of an address may wait."""
        now = self._seconds()
        self._waiting = {key: each for key, each in self._waiting.items() if now < each.ends_at}
        network = client_network(client)
        same = [key for key, each in self._waiting.items() if client_network(each.client) == network]
        if len(same) >= MOST_OF_ONE:
            del self._waiting[same[0]]
        return len(self._waiting) < MOST

    def add(self, codes: DeviceCodes, client: str, following: str = "/") -> str:
        """Have a shell wait; return its key."""
        key, now = self._mark(secrets.token_urlsafe(_BYTES)), self._seconds()
        self._waiting[digest_of(key)] = Device(
            codes=codes,
            client=client,
            ends_at=now + codes.expires_in,
            interval=codes.interval,
            next_at=now + codes.interval,
            following=following,
        )
        return key

    def find(self, digest: str) -> Device | None:
        """Return the shell of a key; None where there is none, and where its time is over."""
        found = self._waiting.get(digest)
        return found if found is not None and self._seconds() < found.ends_at else None

    def remove(self, digest: str) -> None:
        """Have a shell wait no more."""
        self._waiting.pop(digest, None)


def digest_of(key: str) -> str:
    """Return what a login is known by here, and what is asked of the node where it began: it lets nobody in."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
