"""Tickets for git, which sends one secret with several requests: each lets it fetch one mirror for a while."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable

from stackit.peers.claims import is_same

VALID_FOR = 900.0
"""Seconds. A fetch that has begun goes on."""

_TICKET = re.compile(r"stackit-mirror-([0-9]{1,12})-([0-9a-f]{64})", re.ASCII)


class Tickets:
    """Makes and checks tickets. ``now`` is the wall clock."""

    def __init__(self, key: bytes, now: Callable[[], float]) -> None:
        self._key = key
        self._now = now

    def make(self, repo_key: str, incarnation: int) -> str:
        """Return a ticket for a mirror (its repository's key) at an incarnation of a node."""
        until = int(self._now() + VALID_FOR)
        return f"stackit-mirror-{until}-{self._proof(repo_key, incarnation, until)}"

    def is_valid(self, ticket: str, repo_key: str, incarnation: int | None) -> bool:
        """Return whether a ticket is for this mirror and this incarnation, and counts still."""
        found = _TICKET.fullmatch(ticket)
        if found is None or incarnation is None:
            return False
        until = int(found[1])
        # One from the future beyond that is of a clock that is wrong, and would count for long.
        fits = is_same(found[2], self._proof(repo_key, incarnation, until))
        return fits and self._now() <= until <= self._now() + 2 * VALID_FOR

    def _proof(self, repo_key: str, incarnation: int, until: int) -> str:
        said = f"{incarnation}\n{until}\n{repo_key}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, said, "sha256").hexdigest()
