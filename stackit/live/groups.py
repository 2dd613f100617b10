"""Streams with the same filter: they get the same bytes, which are put together once."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from stackit.api.admin import BodyStream
from stackit.api.occurrences import Occurrence
from stackit.live.filters import Filter

MOST_AT_ONCE = 16 * 2**10
"""Bytes of events between two writes to a stream; the last event may go over it."""


class Entry:
    """An occurrence as it is kept: its ``number`` since the start, its ``time``, and its bytes once they are made."""

    __slots__ = ("data", "number", "occurrence", "time")

    def __init__(self, number: int, time: float, occurrence: Occurrence) -> None:
        self.number = number
        self.time = time
        self.occurrence = occurrence
        self.data: bytes | None = None


class Group:
    """The streams of one filter, and what is to be written to each of them next.

    ``names`` and ``hidden`` are those of the filter, ``skipped`` counts the events that are left out of the next write.
    """

    __slots__ = ("_pending", "filter", "hidden", "names", "size", "skipped", "streams")

    def __init__(self, wanted: Filter) -> None:
        self.filter = wanted
        self.names = wanted.names
        self.hidden = wanted.hidden
        self.streams: dict[BodyStream, None] = {}
        self._pending: list[bytes] = []
        self.size = 0
        self.skipped = 0

    def add(self, data: bytes) -> None:
        """Take an event to be written."""
        self._pending.append(data)
        self.size += len(data)

    def take(self) -> tuple[bytes, int, int]:
        """Return the bytes to be written, the number of events in them, and that of the events that were skipped."""
        taken = b"".join(self._pending), len(self._pending), self.skipped
        self._pending, self.size, self.skipped = [], 0, 0
        return taken


class Groups:
    """All groups; those that want only some repositories are found by them."""

    def __init__(self) -> None:
        self._groups: dict[Filter, Group] = {}
        self._of_all: dict[Filter, Group] = {}
        self._by_repo: dict[str, dict[Filter, Group]] = {}

    def all(self) -> Iterable[Group]:
        """Return the groups that have streams."""
        return tuple(self._groups.values())

    def group(self, wanted: Filter) -> Group:
        """Return the group of a filter. One without streams has to get one, or it stays."""
        group = self._groups.get(wanted)
        if group is None:
            group = self._groups[wanted] = Group(wanted)
            for index in self._indexes(wanted):
                index[wanted] = group
        return group

    def leave(self, group: Group, stream: BodyStream) -> None:
        """Take a stream out of its group."""
        group.streams.pop(stream, None)
        if group.streams:
            return
        self._groups.pop(group.filter, None)
        for index in self._indexes(group.filter):
            index.pop(group.filter, None)
        for key in group.filter.repos or ():
            if not self._by_repo.get(key, True):
                del self._by_repo[key]

    def candidates(self, occurrence: Occurrence) -> Collection[Group]:
        """Return the groups whose filter by repository lets an occurrence pass."""
        if not self._by_repo or occurrence.repo is None:
            return self._of_all.values()
        found = self._by_repo.get(occurrence.repo.key)
        if found is None:
            return self._of_all.values()
        return (*self._of_all.values(), *found.values())

    def _indexes(self, wanted: Filter) -> list[dict[Filter, Group]]:
        if wanted.repos is None:
            return [self._of_all]
        return [self._by_repo.setdefault(key, {}) for key in wanted.repos]
