"""The history of each mirror's newest commit, remembered for a burst of pushes, in one bounded room for all."""

from __future__ import annotations

from collections import OrderedDict

ROOM = 16 * 2**20
"""Bytes: 41 for each commit, 65 in a repository with SHA-256."""


class HistoryCache:
    """What ``git rev-list`` printed for a tip: one for each mirror; those asked for longest ago are forgotten."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._listed: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return len(self._listed)

    def get(self, mirror: str, tip: str) -> bytes | None:
        """The lines for a tip; None where they are not remembered."""
        known, listed = self._listed.get(mirror, ("", b""))
        if known != tip:
            return None
        self._listed.move_to_end(mirror)
        return listed

    def remember(self, mirror: str, tip: str, listed: bytes) -> None:
        """``listed`` takes the place of what was remembered for another tip of this mirror."""
        _, before = self._listed.pop(mirror, ("", b""))
        self._listed[mirror] = (tip, listed)
        self._size += len(listed) - len(before)
        while self._size > self._room:
            _, (_, forgotten) = self._listed.popitem(last=False)
            self._size -= len(forgotten)
