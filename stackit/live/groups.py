"""Streams with the same filter: they get the same bytes, which are put together once."""

from __future__ import annotations

from collections.abc import Iterable

from stackit.api.admin import BodyStream
from stackit.api.occurrences import Occurrence
from stackit.live.filters import Filter

MOST_AT_ONCE = 32 * 2**10
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
    """The streams of one filter, and what is to be written to each of them next."""

    __slots__ = ("_pending", "_size", "_skipped", "filter", "streams")

    def __init__(self, wanted: Filter) -> None:
        self.filter = wanted
        self.streams: dict[BodyStream, None] = {}
        self._pending: list[bytes] = []
        self._size = 0
        self._skipped = 0

    def add(self, data: bytes | None) -> None:
        """Take an event to be written; None is one that there is no time to encode."""
        if data is None or self._skipped or self._size >= MOST_AT_ONCE:
            self._skipped += 1
        else:
            self._pending.append(data)
            self._size += len(data)

    def take(self) -> tuple[bytes, int, int]:
        """Return the bytes to be written, the number of events in them, and that of the events that were skipped."""
        taken = b"".join(self._pending), len(self._pending), self._skipped
        self._pending, self._size, self._skipped = [], 0, 0
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

    def wanting(self, occurrence: Occurrence) -> list[Group]:
        """Return the groups that want an occurrence."""
        found = list(self._of_all.values())
        if self._by_repo and occurrence.repo is not None:
            found += self._by_repo.get(occurrence.repo.key, {}).values()
        name = occurrence.name
        return [group for group in found if group.filter.names is None or name in group.filter.names]

    def _indexes(self, wanted: Filter) -> list[dict[Filter, Group]]:
        if wanted.repos is None:
            return [self._of_all]
        return [self._by_repo.setdefault(key, {}) for key in wanted.repos]
