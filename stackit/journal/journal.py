"""The journal as the rest of stackit sees it: what it may write, and what it may ask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.api.reactor import Reactor
from stackit.journal import deliveries, outcomes, queries, retention
from stackit.journal.checkpoints import checkpoint
from stackit.journal.files import Hurt
from stackit.journal.opening import Full, Opening
from stackit.journal.reader import Reader
from stackit.journal.records import AppendResult, DueHandling, NewDelivery, Page, Receipt, StoredEvent
from stackit.journal.writer import Writer

_REPLAY_STEP = 500


class Journal:
    """The durable record of deliveries and ref changes, and of what each subscriber made of them.

    Whatever writes is durable once it returns, and raises JournalError where it cannot be
    now; the two that every delivery needs say so to a callback. Times are seconds since the epoch, and given by the
    caller.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        reactor: Reactor,
        keep_for: float,
        keep_bytes: int,
        on_change: Callable[[str | None], None] | None,
        on_behind: Callable[[str | None], None] | None,
    ) -> None:
        """Use ``Journal.open``."""
        self._opening: Opening | None = opening
        self._keep_for = keep_for
        self._keep_bytes = keep_bytes
        self._reader = Reader(opening, reactor)
        self._writer = Writer(
            opening,
            reactor,
            on_change=on_change or _ignore,
            on_behind=on_behind or _ignore,
            on_log=self._fold_log,
            let_go=self._reader.let_go,
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
        on_behind: Callable[[str | None], None] | None = None,
    ) -> Journal:
        """Open ``directory/journal.sqlite3``, making it if it is missing. Blocks: for the start only.

        ``reactor`` provides IReactorFromThreads and IReactorTime. ``keep_for`` (seconds) and ``keep_bytes``
        are what ``prune`` keeps to. ``on_change`` is told why nothing can be written whenever that changes, and
        ``on_behind`` why the write-ahead log only grows: None where all is well.

        On a full disk it is opened later, by what is asked of it: until then nothing can be written or read.
        Raises JournalError where another process holds the directory, it is open to other
        users, or the journal is damaged or newer than this stackit; nothing is changed then.
        """
        opening = Opening(directory)
        journal = cls(
            opening,
            reactor=reactor,
            keep_for=keep_for,
            keep_bytes=keep_bytes,
            on_change=on_change,
            on_behind=on_behind,
        )
        problem = None
        try:
            opening.attempt()
            journal._reader.connect()
            journal._writer.connect()
        except Full as full:
            problem = str(full)
        except (JournalError, Hurt) as fault:
            opening.release()
            raise JournalError(str(fault)) from None
        journal._reader.start()
        journal._writer.start(problem)
        return journal

    def append(self, record: NewDelivery, done: Callable[[AppendResult | Failure], object]) -> None:
        """Write a delivery down, with a handling for each of its subscribers.

        ``done`` is called with what became of it once it is durable, or with a Failure of JournalError.
        """
        self._writer.join(deliveries.append, record, done, len(record.body))

    async def announce(
        self,
        repo: str,
        changes: Sequence[RefChange],
        cause: str,
        delivery: str | None,
        received_at: float,
        subscribers: Sequence[str],
    ) -> AppendResult:
        """Write down that refs moved, and that this was announced: in one transaction."""
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

    async def announced(self, repo_key: str) -> dict[str, str]:
        """The refs of a repository (by its key) as they were last announced, and their object ids."""
        return await self._reader.ask(lambda connection: queries.announced(connection, repo_key))

    async def started(self, handling: int, at: float) -> None:
        """An attempt begins."""
        await self._writer.submit(lambda connection: outcomes.start(connection, handling, at))

    def finish(self, handling: int, done: Callable[[Failure | None], object], *, at: float) -> None:
        """An attempt succeeded: the handling is done.

        ``done`` is called some time after that is durable, or with a Failure of JournalError.
        """
        self._writer.join(outcomes.finish, (handling, at), done, late=True)

    async def fail(self, handling: int, *, at: float, error: str, next_at: float | None) -> None:
        """An attempt failed: to be tried again at ``next_at``, or dead where that is None."""
        await self._writer.submit(lambda connection: outcomes.fail(connection, handling, at, error, next_at))

    async def move_retries(self, step: float, *, now: float, longest: float) -> None:
        """Try again so many seconds later (or sooner) than planned; now, what would wait ``longest`` seconds or more.

        Wall clocks are set, also while nobody runs: what was never tried and comes from the future is due now.
        """
        await self._writer.submit(lambda connection: outcomes.move_retries(connection, step, now, longest))

    async def visible(self, event_id: int, at: float) -> bool:
        """Note when the commit of a push became visible in the mirror; the first time counts. Whether this was it."""
        return await self._writer.submit(lambda connection: outcomes.visible(connection, event_id, at))

    async def due(
        self, subscriber: str, now: float, *, group: str | None = None, after: int = 0, limit: int
    ) -> list[DueHandling]:
        """What is due for a subscriber, in one group or all, in the order it arose, beyond the handling ``after``."""
        return await self._reader.ask(lambda connection: queries.due(connection, subscriber, now, group, after, limit))

    async def due_groups(self, subscriber: str, *, now: float) -> list[str]:
        """The groups (repository keys, or "") in which something is due for a subscriber, longest waiting first."""
        return await self._reader.ask(lambda connection: queries.due_groups(connection, subscriber, now))

    async def next_due(self, subscriber: str, *, after: float = -math.inf) -> float | None:
        """When the next pending handling of a subscriber is due, of those due later than ``after``."""
        return await self._reader.ask(lambda connection: queries.next_due(connection, subscriber, after))

    async def load(self, event_id: int) -> StoredEvent | None:
        """One event with its body; None where it is not there (any more). Raises Permanent for a damaged body."""
        return await self._reader.ask(lambda connection: queries.load(connection, event_id))

    async def pending(self) -> dict[str, int]:
        """How many handlings each subscriber has still to do, also subscribers that are gone.

        Asked in line with what is written: the answer counts exactly what had its result before.
        """
        return await self._writer.submit(queries.pending)

    async def receipt(self, event_id: int) -> Receipt | None:
        """What became of one event; None where it is not there (any more)."""
        return await self._reader.ask(lambda connection: queries.receipt(connection, event_id))

    async def listing(
        self,
        *,
        delivery: str | None = None,
        event: str | None = None,
        repo: str | None = None,
        state: str | None = None,
        subscriber: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Page:
        """Deliveries that pass every filter, newest first; ``event="refs_changed"`` lists announcements.

        With ``subscriber``, ``state`` is that subscriber's own. At most 500 to a page.
        Raises ValueError for a cursor or a state that is none.
        """
        question = partial(
            queries.listing,
            delivery=delivery,
            event=event,
            repo=repo,
            state=state,
            subscriber=subscriber,
            cursor=cursor,
            limit=limit,
        )
        return await self._reader.ask(question)

    async def replay(self, event_id: int, subscribers: Sequence[str] | None, *, now: float) -> list[DueHandling]:
        """Have an event handled once more, by those named, or by all that had it before (None).

        Raises LookupError for an unknown event, ValueError where its body is not kept.
        """
        return await self._writer.submit(lambda connection: outcomes.replay(connection, event_id, subscribers, now))

    async def replay_dead(self, subscriber: str, *, now: float) -> list[DueHandling]:
        """Have every dead handling of a subscriber tried again: in small steps, so that no delivery waits for it."""
        handlings: list[DueHandling] = []
        while True:
            # Going on behind the last one: what dies again meanwhile is not tried for ever.
            after = handlings[-1].event_id if handlings else 0
            step = partial(outcomes.replay_dead, subscriber=subscriber, now=now, after=after, limit=_REPLAY_STEP)
            found = await self._writer.submit(step)
            handlings += found
            if len(found) < _REPLAY_STEP:
                return handlings

    async def prune(self, now: float) -> int:
        """Forget some of what is too old or too much, never what is pending: one small step.

        Returns how many events went; 0 means that nothing is left to prune.
        """
        before = now - self._keep_for
        chosen = await self._reader.ask(lambda connection: retention.outdated(connection, before, self._keep_bytes))
        if not chosen:
            return 0
        return await self._writer.submit(lambda connection: outcomes.remove(connection, chosen))

    def problem(self) -> str | None:
        """Why nothing can be written now, None when all is well.

        Asking also makes the journal look whether the problem is over.
        """
        self._writer.probe()
        return self._writer.problem

    def problems(self) -> list[str]:
        """All that is wrong with it, also what does not keep it from being written yet."""
        return [each for each in (self.problem(), self._writer.behind) if each is not None]

    def threads(self) -> dict[str, Reader | Writer]:
        """What has to live and move, by name."""
        return {"the journal's writer": self._writer, "the journal's reader": self._reader}

    def _fold_log(self) -> None:
        self._reader.ask(checkpoint).addBoth(lambda _: self._writer.catch_up())

    async def close(self) -> None:
        """Finish what was asked for, and let go of the directory. The reactor must be running."""
        opening, self._opening = self._opening, None
        if opening is None:
            return
        await self._reader.close(keep_connection=self._writer.is_hurt)
        await self._writer.close()  # the last one out folds the log into the journal's file
        opening.release()


def _ignore(_problem: str | None) -> None:
    """Nobody asked to be told."""
