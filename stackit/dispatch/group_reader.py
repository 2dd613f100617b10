"""Read back from the journal what a queue left there: one group at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.tracebacks import describe_with_place
from stackit.dispatch.entries import Group
from stackit.journal import DueHandling, HandlingId, Shard

_log = Logger(namespace="stackit")

Read = Callable[[str, str, int], Deferred[list[DueHandling]]]


class GroupReader:
    """Read the groups of one queue from the journal.

    ``read(key, group, limit)`` returns what is due of a group, oldest first; ``take(group, due, room)`` receives it,
    with the number of events that there was room for. ``groups`` are those with events in the journal, each once. One
    without room for more of its events stands aside until ``take_up``.
    While something is read, ``ended`` collects the handlings that end, and ``lost`` the shards that are lost: the
    journal may still show them.
    """

    __slots__ = ("_failed", "_key", "_read", "_reading", "_stopped", "_take", "ended", "groups", "lost")

    def __init__(self, key: str, read: Read, take: Callable[[Group, list[DueHandling], int], object]) -> None:
        self.groups: deque[Group] = deque()
        self.ended: set[HandlingId] | None = None
        self.lost: set[Shard] = set()
        self._key = key
        self._read = read
        self._take = take
        self._failed: list[Group] = []
        self._reading: Deferred[Any] | None = None
        self._stopped = False

    def add(self, group: Group) -> None:
        """Note that the journal holds events of a group which memory does not."""
        group.arrived = True
        if not group.in_journal:
            group.in_journal = True
            self.groups.append(group)

    def retry_failed(self) -> None:
        """Have groups read again that could not be read."""
        self.groups.extend(self._failed)
        self._failed.clear()

    def waiting(self) -> list[Group]:
        """Return the groups that are to be read, also those that could not be, and none that stands aside."""
        return [*self.groups, *self._failed]

    def read_next(self, room: Callable[[Group], int]) -> bool:
        """Begin to read the next group with room for more events; return whether there is one."""
        if self._reading is not None:
            return False
        while self.groups:
            group = self.groups.popleft()
            most = room(group)
            if most:
                self._start(group, most)
                return True
            group.is_aside = True
        return False

    def take_up(self, group: Group) -> None:
        """See again whether there is room for more events of a group that stands aside."""
        group.is_aside = False
        self.groups.append(group)

    def stop(self) -> None:
        """Give up what is being read."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()

    def _start(self, group: Group, room: int) -> None:
        group.arrived = False
        limit = room + len(group.waiting) + group.active  # the events in memory are in the journal, too
        seen: set[HandlingId] = set()
        self.ended = seen
        self.lost.clear()

        def ended(found: list[DueHandling] | Failure) -> None:
            self._reading = self.ended = None
            if isinstance(found, Failure):
                # Read again at the next wake: at once it would most likely fail again, and again.
                self._failed.append(group)
                if not self._stopped:
                    _log.error(
                        "what is due for {subscriber} cannot be read: {problem}",
                        subscriber=self._key,
                        problem=describe_with_place(found.value),
                    )
                return
            if group.arrived or len(found) == limit:
                self.groups.append(group)
            else:
                group.in_journal = False
            self._take(group, [due for due in found if due.id not in seen and due.shard not in self.lost], room)

        self._reading = reading = maybeDeferred(self._read, self._key, group.name, limit)
        reading.addBoth(ended)
