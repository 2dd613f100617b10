"""Upkeep: what takes longer than a commit, in a thread and by a connection of its own, so that no delivery waits.

The table of work is full and empty by turns, and its dead rows slow every statement down. The server's own vacuum comes
once a minute; this one comes every second or two in which there was something to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred

from stackit.api.reactor import Reactor
from stackit.journal.postgres.announcements import Announcement, announce
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.replays import replay_dead
from stackit.journal.postgres.retention import Retention
from stackit.journal.postgres.writer import Writer
from stackit.journal.records import AppendResult, DueHandling, Space

_INTERVAL = 1.5
"""Seconds between two looks at how much was written."""
_ENOUGH = 200
"""Writes after which the table of work is worth a vacuum."""
_REPLAYED = 64
"""Dead letters that are replayed in one transaction."""
# The table keeps its length, and whoever else vacuums it is not waited for.
_MAY_VACUUM = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'work'::regclass"
_VACUUM = "VACUUM (SKIP_LOCKED, TRUNCATE false) work"


class Upkeep:
    """Prunes, replays dead letters, announces thousands of refs and vacuums, by a ``writer`` of its own.

    ``written`` counts what others write.
    """

    def __init__(self, writer: Writer, reactor: Reactor, *, written: Callable[[], int]) -> None:
        self._writer = writer
        self._reactor = reactor
        self._written = written
        self._vacuumed = 0
        self._retention = Retention()
        self._next: DelayedCall | None = None
        self._is_vacuuming = False

    @property
    def problem(self) -> str | None:
        """Return what keeps it from its work, None where nothing does."""
        return self._writer.problem

    def subscribe(self, spaces: Mapping[str, Space]) -> None:
        """Have these subscribers, each with the space of its handlings."""
        self._writer.spaces = dict(spaces)

    def start(self) -> None:
        """Start the thread, and begin to vacuum."""
        self._writer.start()
        self._next = self._reactor.callLater(_INTERVAL, self._look)

    def announce(self, announcement: Announcement) -> Deferred[AppendResult]:
        """Announce that refs moved: so many that deliveries would wait for it."""
        result: Deferred[AppendResult] = Deferred()
        self._writer.join(announce, announcement, result.callback)
        return result

    async def prune(self, now: float, *, keep_for: float, keep_bytes: int) -> int:
        """Delete a few events that are too old or too many; return their number."""
        step = partial(self._retention.step, now=now, keep_for=keep_for, keep_bytes=keep_bytes)
        try:
            return await self._writer.submit(step)
        except BaseException:
            self._retention = Retention()  # what it knew of too many bytes is old when the next round begins
            raise

    async def replay_dead(self, subscriber: str, *, now: float) -> list[DueHandling]:
        """Make all dead handlings of a subscriber pending, in small transactions; return those of this process."""
        handlings: list[DueHandling] = []
        after = 0
        while True:
            # Going on behind the last one: what dies again meanwhile is not tried for ever.
            step = partial(replay_dead, subscriber=subscriber, now=now, after=after, limit=_REPLAYED)
            found = await self._writer.submit(step)
            handlings += found.handlings
            after = found.last
            if found.is_all:
                return handlings

    async def close(self) -> None:
        """End what is under way, and the thread."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        await self._writer.close()

    def _look(self) -> None:
        self._next = self._reactor.callLater(_INTERVAL, self._look)
        written = self._written()
        if written - self._vacuumed < _ENOUGH or self._is_vacuuming:
            return
        self._vacuumed = written
        self._is_vacuuming = True

        def done(_: object) -> None:  # a failure is the server's, of which the writer tells
            self._is_vacuuming = False

        self._writer.submit(vacuum, transaction=False).addBoth(done)


def vacuum(commit: Commit) -> None:
    """Vacuum, unless the table is another's: the server would only write a warning into its log each time."""
    if commit.connection.execute(_MAY_VACUUM).fetchone() == (True,):
        commit.connection.execute(_VACUUM)
