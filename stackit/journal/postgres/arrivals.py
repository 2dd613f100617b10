"""Arrivals: handlings of this process that another one recorded, told by a notice or found by a poll."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import msgspec
from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Timers
from stackit.journal.postgres import arrival_queries
from stackit.journal.postgres.commit import Snapshot
from stackit.journal.postgres.connection import Connection
from stackit.journal.postgres.ownership import Ownership, handling_row
from stackit.journal.postgres.reader import Reader
from stackit.journal.protocol import WorkListener
from stackit.journal.records import DueHandling, HandlingId

_log = Logger(namespace="stackit")


class Pace(msgspec.Struct, frozen=True):
    """How often is looked for what nobody told of.

    ``new`` are the seconds between looks for new work, ``old`` those between looks for old work that was made new
    again: longer than it takes from a new id to its commit.
    """

    new: float = 2.0
    old: float = 30.0


class Arrivals:
    """What is handed to the listener: once each, of shards that are this process's at that moment.

    Everything that the journal gives out on other ways is told by ``gave``, and what ended by ``ended``: a question
    that was asked before may still show it as pending. ``settle`` calls back when the results of all earlier commits
    are given out.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        ownership: Ownership,
        snapshot: Callable[[], Snapshot],
        reactor: Timers,
        now: Callable[[], float],
        settle: Callable[[Callable[[object], object]], None],
        pace: Pace,
    ) -> None:
        self.listener: WorkListener | None = None
        self._reader = reader
        self._ownership = ownership
        self._snapshot = snapshot
        self._reactor = reactor
        self._now = now
        self._settle = settle
        self._pace = pace
        self._to_read: set[int] = set()
        self._asked: list[set[HandlingId]] = []  # for each question that is not answered: what has ended since
        # Polls go in turns. A row may be committed after others with larger ids, so a poll looks at all rows behind the
        # one that was the latest at the turn before the last: up to there, all have been found.
        self._behind: int | None = None
        self._latest = 0  # at the last turn
        self._turned = 0.0  # when that was
        self._given: set[int] = set()  # rows that were given out since then, and are pending
        self._given_before: set[int] = set()  # the same, of the turn before
        self._timer: DelayedCall | None = None
        self._tasks: set[Deferred[None]] = set()
        self._is_taking = False
        self._is_polling = False
        self._stopped = False

    def start(self, latest: int) -> None:
        """Begin to poll; ``latest`` is the row of the latest handling before anything was given out."""
        self._behind = self._latest = latest
        self._turned = self._reactor.seconds()
        self._poll_later()

    def gave(self, handlings: Iterable[DueHandling]) -> None:
        """Note handlings that are given out."""
        self._given.update([handling_row(each.id)[0] for each in handlings])

    def ended(self, handling: HandlingId, *, is_pending: bool = False) -> None:
        """Note that the outcome of an attempt is recorded."""
        for since in self._asked:
            since.add(handling)
        if not is_pending:
            row, _ = handling_row(handling)
            self._given.discard(row)
            self._given_before.discard(row)

    def add(self, rows: Iterable[int]) -> None:
        """Take handlings that another process recorded, by their rows."""
        self._to_read.update(rows)
        if self._to_read and not self._is_taking and not self._stopped:
            self._is_taking = True
            self._run(self._take())

    def poll(self) -> None:
        """Look at once: something may have been missed."""
        if not self._is_polling and not self._stopped:
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._begin()

    async def stop(self) -> None:
        """Hand on nothing any more."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
            await task

    # -- inside -------------------------------------------------------------------

    async def _take(self) -> None:
        try:
            while self._to_read and not self._stopped:
                rows = heapq.nsmallest(arrival_queries.AT_ONCE, self._to_read)
                self._to_read.difference_update(rows)
                question = partial(arrival_queries.named, snapshot=self._snapshot(), rows=rows, now=self._now())
                since: set[HandlingId] = set()
                self._asked.append(since)
                try:
                    works = await self._reader.ask(question)
                finally:
                    self._asked.remove(since)
                own = [
                    (_without(due, since), stored) for due, stored in works if due.id not in since and self._is_own(due)
                ]
                if own and self.listener is not None:
                    self.gave([due for due, _ in own])
                    self.listener.recorded(own)
        finally:
            self._is_taking = False

    def _is_own(self, due: DueHandling) -> bool:
        _, epoch = handling_row(due.id)
        return self._ownership.owns(due.shard) and self._ownership.epochs[due.shard] == epoch

    def _poll_later(self) -> None:
        if not self._stopped:
            self._timer = self._reactor.callLater(self._pace.new, self._begin)

    def _begin(self) -> None:
        self._is_polling = True
        self._run(self._poll())

    async def _poll(self) -> None:
        try:
            snapshot = self._snapshot()
            if snapshot.epochs and self.listener is not None and self._behind is not None:
                question = partial(_look, snapshot=snapshot, behind=self._behind, now=self._now())
                latest, rows = await self._reader.ask(question)
                await self._settled()
                self.add(self._missing(rows))
                if self._reactor.seconds() >= self._turned + self._pace.old:
                    await self._turn(snapshot, latest)
        finally:
            self._is_polling = False
            self._poll_later()

    async def _turn(self, snapshot: Snapshot, latest: int) -> None:
        """Look for old work that was made new again, and go on to newer ids."""
        span = self._reactor.seconds() - self._turned + self._pace.new
        question = partial(arrival_queries.revived, snapshot=snapshot, before=self._latest, now=self._now(), span=span)
        rows = await self._reader.ask(question)
        if self._missing(rows) and self.listener is not None:
            self.listener.gained()
        self._behind, self._latest = self._latest, latest
        self._given, self._given_before = set(), self._given
        self._turned = self._reactor.seconds()

    def _missing(self, rows: Iterable[int]) -> list[int]:
        return [row for row in rows if row not in self._given and row not in self._given_before]

    def _settled(self) -> Deferred[object]:
        settled: Deferred[object] = Deferred()

        def done(_: object) -> None:
            if not settled.called:
                settled.callback(None)

        self._settle(done)
        return settled

    def _run(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        task = Deferred.fromCoroutine(work)
        self._tasks.add(task)

        def ended(result: Failure | None) -> None:
            self._tasks.discard(task)
            # While the database is away, what was missed is found by a later look.
            if isinstance(result, Failure) and not result.check(JournalError, CancelledError):
                _log.failure("work of another process was not taken", result)

        task.addBoth(ended)


def _without(due: DueHandling, ended: set[HandlingId]) -> DueHandling:
    """Return a handling that waits for none of those that have ended."""
    if ended and not ended.isdisjoint(due.earlier):
        return msgspec.structs.replace(due, earlier=tuple(each for each in due.earlier if each not in ended))
    return due


def _look(connection: Connection, *, snapshot: Snapshot, behind: int, now: float) -> tuple[int, list[int]]:
    """Return the row of the latest handling, and the rows of those of this process behind another."""
    latest = arrival_queries.latest(connection)
    return latest, arrival_queries.new(connection, snapshot, behind, now)
