"""The places for streams: so many for one address, for one person, and in all."""

from __future__ import annotations

from collections import Counter
from typing import Literal

MOST = 256
MOST_OF_ADDRESS = 64
MOST_OF_PERSON = 32
KEPT_FREE = 4
"""One place in so many is for people who are known: strangers who may look cannot take them all."""

Full = Literal["address", "person", "all"]
"""Whose places are taken."""


class Places:
    """Counts the streams. ``most`` is the number of them in all; ``refused`` counts those that had no place."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._taken = 0
        self._of: Counter[tuple[Full, str]] = Counter()
        self.refused: Counter[Full] = Counter()

    def full(self, address: str, person: str, *, is_known: bool = True) -> Full | None:
        """Return whose places are all taken; None where there is one. Counts a refusal."""
        found: Full | None = None
        most = self._most if is_known else self._most - self._most // KEPT_FREE
        if self._of["address", address] >= MOST_OF_ADDRESS:
            found = "address"
        elif self._of["person", person] >= MOST_OF_PERSON:
            found = "person"
        elif self._taken >= most:
            found = "all"
        if found is not None:
            self.refused[found] += 1
        return found

    def take(self, address: str, person: str) -> None:
        """Take a place. ``leave`` has to follow."""
        self._count(address, person, 1)

    def leave(self, address: str, person: str) -> None:
        """Give a place back."""
        self._count(address, person, -1)

    def _count(self, address: str, person: str, by: int) -> None:
        self._taken += by
        keys: tuple[tuple[Full, str], ...] = (("address", address), ("person", person))
        for key in keys:
            self._of[key] += by
            if not self._of[key]:
                del self._of[key]
