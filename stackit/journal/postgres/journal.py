"""The face of the journal in PostgreSQL: each method of ``JournalProtocol``, a write or a question of its threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.events import RefChange
from stackit.api.reactor import Reactor
from stackit.api.threads import MonitoredThread
from stackit.journal.postgres import (
    announcements,
    arrival_queries,
    deliveries,
    opening,
    outcomes,
    queries,
    receipts,
    replays,
)
from stackit.journal.postgres import documents as small_documents
from stackit.journal.postgres.arrivals import Arrivals, Pace
from stackit.journal.postgres.batch import BatchOperation
from stackit.journal.postgres.commit import Snapshot
from stackit.journal.postgres.connection import Server
from stackit.journal.postgres.exchange import Exchange
from stackit.journal.postgres.ids import event_row
from stackit.journal.postgres.loads import Loads
from stackit.journal.postgres.metrics import WriterMetrics
from stackit.journal.postgres.ownership import Ownership
from stackit.journal.postgres.reader import Reader
from stackit.journal.postgres.spaces import Spaces
from stackit.journal.postgres.subscribers import Subscribers
from stackit.journal.postgres.upkeep import Upkeep
from stackit.journal.postgres.writer import Writer
from stackit.journal.protocol import JournalProtocol, WorkListener
from stackit.journal.reading_watch import ReadingWatch
from stackit.journal.records import (
    AppendResult,
    DueHandling,
    EventId,
    HandlingId,
    NewDelivery,
    Page,
    Receipt,
    Shard,
    Space,
    StoredEvent,
    check_renames,
)

Item = TypeVar("Item")


class PostgresJournal(JournalProtocol):
    """A journal in a PostgreSQL database that the nodes of a fleet share.

    Three threads, each with a connection: the writer commits all that waits together, the reader answers questions
    beside it, and the third exchanges notices with other nodes. Which handlings are this process's is in ``ownership``,
    which membership writes; it owns nothing at first.

    An event that was never tried is due up to a day early: the clocks of those who receive differ.
    """

    def __init__(
        self,
        server: Server,
        ownership: Ownership,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        keep_for: float,
        keep_bytes: int,
        on_change: Callable[[str | None], object],
        on_hold: Callable[[bool], object],
        notice: Callable[[str], object],
        pace: Pace,
    ) -> None:
        """Use ``PostgresJournal.open``."""
        self.ownership = ownership
        self._keep_for = keep_for
        self._keep_bytes = keep_bytes
        self._is_closed = False
        self._reading = ReadingWatch(
            lambda: self._reader.ask(queries.look),
            reactor=reactor,
            notice=notice,
            is_explained=lambda: self._elsewhere() is not None,
        )
        self._reader = Reader(lambda: server.connect("reader"), reactor, on_failure=self._reading.failed)
        self._loads = Loads(self._reader)
        self._arrivals = Arrivals(
            reader=self._reader,
            ownership=ownership,
            snapshot=self._snapshot,
            reactor=reactor,
            now=now,
            settle=self._settle,
            pace=pace,
        )
        self._exchange = Exchange(
            lambda: server.connect("notices"),
            reactor,
            ownership,
            arrived=self._arrivals.add,
            missed=self._arrivals.poll,
        )
        subscribers = Subscribers()
        self._writer = Writer(
            server,
            reactor,
            ownership,
            subscribers,
            on_change=on_change,
            on_hold=on_hold,
            on_commit=self._exchange.tell,
            on_reconnected=self._doubt_readers,
        )
        self._spaces = Spaces(self._writer, reactor)
        self._upkeep = Upkeep(
            Writer(server, reactor, ownership, subscribers, purpose="journal upkeep", on_commit=self._exchange.tell),
            reactor,
            written=lambda: self._writer.written,
        )

    @classmethod
    def open(
        cls,
        server: Server,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        shards: int,
        keep_for: float = 7 * 86400,
        keep_bytes: int = 2**30,
        on_change: Callable[[str | None], object] | None = None,
        on_hold: Callable[[bool], object] | None = None,
        notice: Callable[[str], object] | None = None,
        pace: Pace = Pace(),  # noqa: B008 - frozen
    ) -> PostgresJournal:
        """Open the journal in a database, making its tables if they are missing. Blocks: for the start only.

        The work is divided in so many ``shards`` where the tables are new. ``now`` is the wall clock. ``prune`` keeps
        to ``keep_for`` (seconds) and ``keep_bytes``. ``on_change`` is called with the problem that keeps the journal
        from being written whenever that changes, and with None once it is over: what was not confirmed may be there
        then. ``on_hold`` is called with True as soon as outcomes cannot be written down, and with False once they can.
        ``notice`` is called with a line for people about anything else. ``pace`` is for tests.

        Raises JournalError where the database cannot be reached or is no place for a journal of this version.
        """
        journal = cls(
            server,
            Ownership(0, opening.prepare(server, shards)),
            reactor=reactor,
            now=now,
            keep_for=keep_for,
            keep_bytes=keep_bytes,
            on_change=on_change or _ignore,
            on_hold=on_hold or _ignore,
            notice=notice or _ignore,
            pace=pace,
        )
        latest = arrival_queries.latest(journal._reader.connect())
        journal._writer.connect()
        journal._reader.start()
        journal._writer.start()
        journal._upkeep.start()
        journal._exchange.start()
        journal._arrivals.start(latest)
        return journal

    def change_retention(self, *, keep_for: float, keep_bytes: int) -> None:
        """Have ``prune`` keep to other bounds, as in ``open``."""
        self._keep_for = keep_for
        self._keep_bytes = keep_bytes

    # -- sharing ----------------------------------------------------------------------

    def subscribe(self, subscribers: Mapping[str, Space]) -> None:
        self._spaces.add(subscribers)
        self._upkeep.subscribe(self._spaces.by_subscriber)

    def listen(self, listener: WorkListener) -> None:
        self._arrivals.listener = listener

    def doubt(self) -> None:
        """See whether the database is at another server by now: one may be left that takes no writes, and answers."""
        self._writer.doubt()
        self._doubt_readers()

    def owns(self, shard: Shard) -> bool:
        return self.ownership.owns(shard)

    def watch(self, collection: str, changed: Callable[[frozenset[str] | None], object]) -> None:
        self._exchange.watch(collection, changed)

    # -- writing ----------------------------------------------------------------------

    def append(self, delivery: NewDelivery, done: Callable[[AppendResult | Failure], object]) -> None:
        def appended(result: AppendResult | Failure) -> None:
            if isinstance(result, AppendResult):
                self._arrivals.gave(result.handlings)
            done(result)

        self._writer.join(deliveries.append, delivery, appended, len(delivery.body), is_urgent=True)

    async def announce(
        self,
        repo: str,
        changes: Sequence[RefChange],
        cause: str,
        delivery: str | None,
        received_at: float,
        subscribers: Sequence[str],
    ) -> AppendResult:
        announcement = announcements.Announcement(repo, changes, cause, delivery, received_at, subscribers)
        write = self._upkeep.announce if len(changes) > announcements.MANY else self._announce
        result = await write(announcement)
        self._arrivals.gave(result.handlings)
        return result

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        await self._together(small_documents.put, (collection, dict(documents)))

    async def rename(
        self, renames: Sequence[tuple[str, str]], collection: str, documents: Mapping[str, bytes | None]
    ) -> None:
        check_renames(renames)
        operation = partial(
            small_documents.rename, renames=tuple(renames), collection=collection, documents=dict(documents)
        )
        await self._writer.submit(operation)

    def finish(self, handling: HandlingId, done: Callable[[Failure | None], object], *, at: float) -> None:
        def finished(result: Failure | None) -> None:
            if result is None:
                self._arrivals.ended(handling)
            done(result)

        # What comes in with the same commit is not told to wait for what has ended.
        self._writer.join(outcomes.finish, (handling, at), finished, goes_first=True)

    async def fail(
        self, handling: HandlingId, *, at: float, error: str, next_at: float | None, traceback: str | None = None
    ) -> None:
        await self._together(outcomes.fail, outcomes.Failed(handling, at, error, next_at, traceback))
        self._arrivals.ended(handling, is_pending=next_at is not None)

    async def give_up(self, event_id: EventId, subscriber: str, *, at: float, error: str) -> bool:
        operation = partial(outcomes.give_up, event=event_row(event_id), subscriber=subscriber, at=at, error=error)
        return await self._writer.submit(operation)

    async def visible(self, event_id: EventId, at: float) -> bool:
        return bool(await self._together(outcomes.visible, (event_row(event_id), at)))

    async def replay(self, event_id: EventId, subscribers: Sequence[str] | None, *, now: float) -> list[DueHandling]:
        operation = partial(replays.replay, event=event_row(event_id), subscribers=subscribers, now=now)
        handlings = await self._writer.submit(operation)
        self._arrivals.gave(handlings)
        return handlings

    async def replay_dead(self, subscriber: str, *, now: float) -> list[DueHandling]:
        handlings = await self._upkeep.replay_dead(subscriber, now=now)
        self._arrivals.gave(handlings)
        return handlings

    async def move_retries(self, step: float, *, now: float, longest: float) -> None:
        await self._writer.submit(partial(outcomes.move_retries, step=step, now=now, longest=longest))

    async def prune(self, now: float) -> int:
        return await self._upkeep.prune(now, keep_for=self._keep_for, keep_bytes=self._keep_bytes)

    # -- the queue --------------------------------------------------------------------

    async def due(self, subscriber: str, now: float, *, group: str, limit: int) -> list[DueHandling]:
        question = partial(
            queries.due, snapshot=self._snapshot(), subscriber=subscriber, now=now, group=group, limit=limit
        )
        handlings = await self._reader.ask(question)
        self._arrivals.gave(handlings)
        return handlings

    async def due_groups(self, subscriber: str, *, now: float) -> list[str]:
        snapshot = self._snapshot()
        return await self._reader.ask(partial(queries.due_groups, snapshot=snapshot, subscriber=subscriber, now=now))

    async def next_due(self, subscriber: str, *, after: float = -math.inf) -> float | None:
        snapshot = self._snapshot()
        return await self._reader.ask(partial(queries.next_due, snapshot=snapshot, subscriber=subscriber, after=after))

    async def pending(self) -> dict[str, int]:
        return await self._writer.submit(
            lambda commit: queries.pending(commit.connection, commit.snapshot), transaction=False
        )

    async def pending_elsewhere(self) -> dict[str, int]:
        me = self._snapshot().me
        return await self._reader.ask(lambda connection: queries.pending_elsewhere(connection, me))

    # -- reading ----------------------------------------------------------------------

    async def announced(self, repo_key: str) -> dict[str, str]:
        return await self._reader.ask(lambda connection: queries.announced(connection, repo_key))

    async def documents(self, collection: str, keys: Collection[str] | None = None) -> dict[str, bytes]:
        return await self._reader.ask(lambda connection: queries.documents(connection, collection, keys))

    def documents_now(self, collection: str) -> dict[str, bytes]:
        return self._reader.answer_now(lambda connection: queries.documents(connection, collection))

    async def dead(self) -> dict[str, int]:
        return await self._reader.ask(queries.dead)

    async def subscribers(self) -> set[str]:
        return await self._reader.ask(queries.subscribers)

    async def load(self, event_id: EventId) -> StoredEvent | None:
        return await self._loads.load(event_row(event_id))

    async def recorded(self, hook: str, deliveries: Sequence[str]) -> set[str]:
        kept = tuple(deliveries)
        return await self._reader.ask(lambda connection: queries.recorded(connection, hook, kept))

    async def receipt(self, event_id: EventId) -> Receipt | None:
        row = event_row(event_id)
        return await self._reader.ask(lambda connection: receipts.receipt(connection, row))

    async def tracebacks(self, event_id: EventId) -> dict[str, str]:
        row = event_row(event_id)
        return await self._reader.ask(lambda connection: receipts.tracebacks(connection, row))

    async def listing(
        self,
        *,
        delivery: str | None = None,
        event: str | None = None,
        repo: str | None = None,
        state: str | None = None,
        subscriber: str | None = None,
        since: float | None = None,
        until: float | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        question = partial(
            receipts.listing,
            delivery=delivery,
            event=event,
            repo=repo,
            state=state,
            subscriber=subscriber,
            since=since,
            until=until,
            cursor=cursor,
            limit=limit,
        )
        return await self._reader.ask(question)

    # -- health -----------------------------------------------------------------------

    def problems(self) -> list[str]:
        self._writer.probe()
        problem = self._elsewhere() or self._reading.problem
        return [] if problem is None else [problem]

    def _elsewhere(self) -> str | None:
        """Return what is wrong beside the reader: where the database is away, that is the same."""
        return self._writer.problem or self._upkeep.problem or self._exchange.notices.problem

    def threads(self) -> Mapping[str, MonitoredThread]:
        return {
            "the journal's writer": self._writer,
            "the journal's reader": self._reader,
            "the journal's notices": self._exchange.notices,
        }

    def files(self) -> Sequence[Path]:
        return ()

    def collector(self) -> WriterMetrics:
        """Return the metrics of how this process writes."""
        return WriterMetrics(self._writer)

    async def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._spaces.stop()
        self._reading.stop()
        self._exchange.stop_watching()
        await self._arrivals.stop()
        await self._reader.close()
        await self._upkeep.close()
        await self._writer.close()
        await self._exchange.close()  # the last one out has told of all that was written

    # -- inside -----------------------------------------------------------------------

    def _snapshot(self) -> Snapshot:
        """Return whose work is whose now; and listen to what is told to this process, which enters a fleet anew."""
        owned = self.ownership
        self._exchange.follow_incarnation()
        return Snapshot(owned.me, owned.working(), self._spaces.by_subscriber, owned.shards)

    def _settle(self, done: Callable[[object], object]) -> None:
        """Call ``done`` when the results of all earlier commits are given out."""
        self._writer.beat(done)

    def _doubt_readers(self) -> None:
        """From any thread."""
        self._reader.doubt()
        self._exchange.notices.doubt()

    def _announce(self, announcement: announcements.Announcement) -> Deferred[AppendResult]:
        return self._together(announcements.announce, announcement)

    def _together(self, batch_operation: BatchOperation[Item], item: Item) -> Deferred[Any]:
        """Have an item worked on in the next commit; return its result."""
        result: Deferred[Any] = Deferred()
        self._writer.join(batch_operation, item, result.callback)
        return result


def _ignore(_told: object) -> None:
    """Drop what is told."""
