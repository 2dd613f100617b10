"""The face of the SQLite journal: each method of ``JournalProtocol``, as a write or a question for its threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.api.reactor import Reactor
from stackit.journal.protocol import JournalProtocol, SoleOwner
from stackit.journal.reading_watch import ReadingWatch
from stackit.journal.records import (
    AppendResult,
    DueHandling,
    EventId,
    HandlingId,
    NewDelivery,
    Page,
    Receipt,
    StoredEvent,
    check_renames,
)
from stackit.journal.sqlite import deliveries, outcomes, queries, retention
from stackit.journal.sqlite.checkpoints import checkpoint
from stackit.journal.sqlite.documents import put, rename
from stackit.journal.sqlite.files import FilesChanged, log_of
from stackit.journal.sqlite.ids import event_row
from stackit.journal.sqlite.opening import Full, Opening
from stackit.journal.sqlite.reader import Reader
from stackit.journal.sqlite.sizes import Sizes
from stackit.journal.sqlite.writer import Writer

_REPLAY_STEP = 500
_DOCUMENT_SIZE = 400
"""About as many bytes has a document."""
_CAUGHT_UP = "the journal's log is brought into the journal's file again"


class SQLiteJournal(SoleOwner, JournalProtocol):
    """A journal in one SQLite file of the state directory, which it holds while it is open.

    Two threads: the writer commits all that waits together, the reader answers questions beside it. The ids of events
    and handlings are row numbers.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        reactor: Reactor,
        keep_for: float,
        keep_bytes: int,
        on_change: Callable[[str | None], None] | None,
        notice: Callable[[str], None] | None,
    ) -> None:
        """Use ``SQLiteJournal.open``."""
        self._opening: Opening | None = opening
        self._files = (opening.path, log_of(opening.path))
        self._keep_for = keep_for
        self._keep_bytes = keep_bytes
        self._notice = notice or _ignore
        self._reading = ReadingWatch(
            lambda: self._reader.ask(queries.look),
            reactor=reactor,
            notice=self._notice,
            is_explained=lambda: self._writer.problem is not None,
        )
        self._reader = Reader(opening, reactor, on_failure=self._reading.failed)
        self._writer = Writer(
            opening,
            reactor,
            on_change=on_change or _ignore,
            on_behind=self._log_is_behind,
            on_log=self._fold_log,
            release_reader=self._reader.release_connection,
        )

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        reactor: Reactor,
        keep_for: float = 7 * 86400,
        keep_bytes: int = 2**30,
        on_change: Callable[[str | None], None] | None = None,
        notice: Callable[[str], None] | None = None,
        sizes: Sizes = Sizes(),  # noqa: B008 - frozen
    ) -> SQLiteJournal:
        """Open ``directory/journal.sqlite3``, making it if it is missing. Blocks: for the start only.

        ``prune`` keeps to ``keep_for`` (seconds) and ``keep_bytes``. ``on_change`` is called with the problem that
        keeps the journal from being written whenever that changes, and with None once it is over: what was not
        confirmed may be there then. ``notice`` is called with a line for people about anything else. ``sizes`` are for
        tests, which make them small.

        On a full disk it is opened later, by the next write or question; both fail until then. Raises JournalError
        where another process holds the directory, other users can reach it, or the journal is damaged or of another
        version of stackit; nothing is changed then.
        """
        opening = Opening(directory, sizes)
        journal = cls(
            opening,
            reactor=reactor,
            keep_for=keep_for,
            keep_bytes=keep_bytes,
            on_change=on_change,
            notice=notice,
        )
        problem = None
        try:
            opening.attempt()
            journal._reader.connect()
            journal._writer.connect()
        except Full as full:
            problem = str(full)
        except (JournalError, FilesChanged) as fault:
            opening.release()
            raise JournalError(str(fault)) from None
        journal._reader.start()
        journal._writer.start(problem)
        return journal

    def change_retention(self, *, keep_for: float, keep_bytes: int) -> None:
        """Have ``prune`` keep to other bounds, as in ``open``."""
        self._keep_for = keep_for
        self._keep_bytes = keep_bytes

    def append(self, delivery: NewDelivery, done: Callable[[AppendResult | Failure], object]) -> None:
        self._writer.join(deliveries.append, delivery, done, len(delivery.body))

    async def announce(
        self,
        repo: str,
        changes: Sequence[RefChange],
        cause: str,
        delivery: str | None,
        received_at: float,
        subscribers: Sequence[str],
    ) -> AppendResult:
        operation = partial(
            outcomes.announce,
            repo=repo,
            changes=changes,
            cause=cause,
            delivery=delivery,
            received_at=received_at,
            subscribers=subscribers,
        )
        return await self._writer.submit(operation, 200 * len(changes))

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        kept = dict(documents)
        await self._writer.submit(lambda connection: put(connection, collection, kept), _DOCUMENT_SIZE * len(kept))

    async def rename(
        self, renames: Sequence[tuple[str, str]], collection: str, documents: Mapping[str, bytes | None]
    ) -> None:
        check_renames(renames)
        operation = partial(rename, renames=tuple(renames), collection=collection, documents=dict(documents))
        await self._writer.submit(operation, _DOCUMENT_SIZE * len(documents))

    def finish(self, handling: HandlingId, done: Callable[[Failure | None], object], *, at: float) -> None:
        self._writer.join(outcomes.finish, (handling, at), done, notify_later=True)

    async def fail(
        self, handling: HandlingId, *, at: float, error: str, next_at: float | None, traceback: str | None = None
    ) -> None:
        await self._writer.submit(lambda connection: outcomes.fail(connection, handling, at, error, next_at, traceback))

    async def give_up(self, event_id: EventId, subscriber: str, *, at: float, error: str) -> bool:
        row = event_row(event_id)
        return await self._writer.submit(lambda connection: outcomes.give_up(connection, row, subscriber, at, error))

    async def visible(self, event_id: EventId, at: float) -> bool:
        row = event_row(event_id)
        return await self._writer.submit(lambda connection: outcomes.visible(connection, row, at))

    async def replay(self, event_id: EventId, subscribers: Sequence[str] | None, *, now: float) -> list[DueHandling]:
        row = event_row(event_id)
        return await self._writer.submit(lambda connection: outcomes.replay(connection, row, subscribers, now))

    async def replay_dead(self, subscriber: str, *, now: float) -> list[DueHandling]:
        handlings: list[DueHandling] = []
        while True:
            # Going on behind the last one: what dies again meanwhile is not tried for ever.
            after = event_row(handlings[-1].event_id) if handlings else 0
            step = partial(outcomes.replay_dead, subscriber=subscriber, now=now, after=after, limit=_REPLAY_STEP)
            found = await self._writer.submit(step)
            handlings += found
            if len(found) < _REPLAY_STEP:
                return handlings

    async def move_retries(self, step: float, *, now: float, longest: float) -> None:
        await self._writer.submit(lambda connection: outcomes.move_retries(connection, step, now, longest))

    async def prune(self, now: float) -> int:
        keep_for, keep_bytes = self._keep_for, self._keep_bytes
        chosen = await self._reader.ask(lambda connection: retention.outdated(connection, now, keep_for, keep_bytes))
        if not chosen:
            return 0
        return await self._writer.submit(lambda connection: outcomes.remove(connection, chosen))

    async def due(self, subscriber: str, now: float, *, group: str, limit: int) -> list[DueHandling]:
        return await self._reader.ask(lambda connection: queries.due(connection, subscriber, now, group, limit))

    async def due_groups(self, subscriber: str, *, now: float) -> list[str]:
        return await self._reader.ask(lambda connection: queries.due_groups(connection, subscriber, now))

    async def next_due(self, subscriber: str, *, after: float = -math.inf) -> float | None:
        return await self._reader.ask(lambda connection: queries.next_due(connection, subscriber, after))

    async def pending(self) -> dict[str, int]:
        return await self._writer.submit(queries.pending)

    async def announced(self, repo_key: str) -> dict[str, str]:
        return await self._reader.ask(lambda connection: queries.announced(connection, repo_key))

    async def documents(self, collection: str, keys: Collection[str] | None = None) -> dict[str, bytes]:
        found = await self._reader.ask(lambda connection: queries.documents(connection, collection))
        return found if keys is None else {key: found[key] for key in found if key in keys}

    def documents_now(self, collection: str) -> dict[str, bytes]:
        return self._reader.answer_now(lambda connection: queries.documents(connection, collection))

    async def dead(self) -> dict[str, int]:
        return await self._reader.ask(queries.dead)

    async def subscribers(self) -> set[str]:
        return await self._reader.ask(queries.subscribers)

    async def load(self, event_id: EventId) -> StoredEvent | None:
        row = event_row(event_id)
        return await self._reader.ask(lambda connection: queries.load(connection, row))

    async def recorded(self, hook: str, deliveries: Sequence[str]) -> set[str]:
        kept = tuple(deliveries)
        return await self._reader.ask(lambda connection: queries.recorded(connection, hook, kept))

    async def receipt(self, event_id: EventId) -> Receipt | None:
        row = event_row(event_id)
        return await self._reader.ask(lambda connection: queries.receipt(connection, row))

    async def tracebacks(self, event_id: EventId) -> dict[str, str]:
        row = event_row(event_id)
        return await self._reader.ask(lambda connection: queries.tracebacks(connection, row))

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
            queries.listing,
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

    def problems(self) -> list[str]:
        self._writer.probe()
        problems = (self._writer.problem, self._writer.behind, self._reading.problem)
        return [each for each in problems if each is not None]

    def threads(self) -> Mapping[str, Reader | Writer]:
        return {"the journal's writer": self._writer, "the journal's reader": self._reader}

    def files(self) -> Sequence[Path]:
        return self._files

    async def close(self) -> None:
        opening, self._opening = self._opening, None
        if opening is None:
            return
        self._reading.stop()
        await self._reader.close(keep_connection=self._writer.files_changed)
        await self._writer.close()  # the last one out folds the log into the journal's file
        opening.release()

    def _fold_log(self) -> None:
        self._reader.ask(checkpoint).addBoth(lambda _: self._writer.catch_up())

    def _log_is_behind(self, problem: str | None) -> None:
        self._notice(problem or _CAUGHT_UP)


def _ignore(_text: str | None) -> None:
    """Drop what is told."""
