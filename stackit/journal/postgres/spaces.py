"""The space of each subscriber, and its work that was in another before: in another release, or without a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from twisted.internet.base import DelayedCall
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Timers
from stackit.journal.postgres.arrays import Chars, Int2s
from stackit.journal.postgres.commit import Commit
from stackit.journal.postgres.ownership import letter_of, shard_at
from stackit.journal.postgres.writer import Writer
from stackit.journal.records import Space

_AGAIN = 2.0
"""Seconds until work is moved that could not be: the database was away."""
_SETTLE = """
    UPDATE work AS w SET space = s.space FROM unnest(%b::int2[], %b::"char"[]) AS s (no, space)
    WHERE w.id & 4095 = s.no AND w.space <> s.space RETURNING w.id, w.space, w.shard
"""


class Spaces:
    """Has the pending handlings of subscribers moved to the spaces in which they are handled now.

    ``by_subscriber`` has the space of each.
    """

    def __init__(self, writer: Writer, reactor: Timers) -> None:
        self.by_subscriber: dict[str, Space] = {}
        self._writer = writer
        self._reactor = reactor
        self._timer: DelayedCall | None = None
        self._stopped = False

    def add(self, subscribers: Mapping[str, Space]) -> None:
        """Take subscribers with their spaces, and move what is pending; later again while the database is away."""
        self.by_subscriber.update(subscribers)
        self._writer.spaces = dict(self.by_subscriber)
        self._settle()

    def stop(self) -> None:
        """Move nothing more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _settle(self) -> None:
        self._writer.submit(partial(settle, spaces=dict(self.by_subscriber))).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        failure.trap(JournalError)
        if not self._stopped:
            self._timer = self._reactor.callLater(_AGAIN, self._settle)


def settle(commit: Commit, spaces: Mapping[str, Space]) -> None:
    """Move the pending handlings of these subscribers to where they are handled now; their owners are told."""
    numbers = commit.numbers(spaces)
    values = Int2s([numbers[key] for key in spaces]), Chars([letter_of(space) for space in spaces.values()])
    rows = commit.connection.execute(_SETTLE, values, binary=True).fetchall()
    commit.changes.works += [(shard_at(letter, number), row) for row, letter, number in rows]
