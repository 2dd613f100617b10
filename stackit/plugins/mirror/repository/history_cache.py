"""Cache the history of each mirror's newest commit for a burst of pushes, in bounded memory for all mirrors."""

from __future__ import annotations

from collections import OrderedDict

CACHE_SIZE = 16 * 2**20
"""Bytes: 41 for each commit, 65 in a repository with SHA-256."""


class HistoryCache:
    """The output of ``git rev-list`` for one tip of each mirror; the least recently used is evicted."""

    def __init__(self, most: int = CACHE_SIZE) -> None:
        """``most`` is the size in bytes."""
        self._most = most
        self._listed: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._listed)

    def get(self, mirror: str, tip: str) -> bytes | None:
        """Return the history of a tip, one object id a line, or None if it is not cached."""
        known, listed = self._listed.get(mirror, ("", b""))
        if known != tip:
            return None
        self._listed.move_to_end(mirror)
        return listed

    def put(self, mirror: str, tip: str, listed: bytes) -> None:
        """Cache the history of a tip, in place of that of another tip of the mirror."""
        _, before = self._listed.pop(mirror, ("", b""))
        self._listed[mirror] = (tip, listed)
        self._size += len(listed) - len(before)
        while self._size > self._most:
            _, (_, evicted) = self._listed.popitem(last=False)
            self._size -= len(evicted)
