"""The promises of a journal, method by method. Whatever keeps them can take the place of the one that ships.

**Durable** means: the next process finds it, whatever becomes of this process and of the machine's power. A write is
durable before its result is given, to a callback or to the one who awaits it. One that fails with JournalError was not
confirmed; it may be found later all the same, so a caller that tries again must expect it to be there.

**One transaction**: each method that writes does all that it says, or nothing of it. Two writes may become durable
together, and fail alone: the fault of one is none of the other's.

**Order**: writes take effect in the order in which they were asked for, and their results come in that order, except
that ``finish`` may be told later. A question is answered by a state that has every write confirmed before it was asked.

**Ids** are opaque. An EventId is text that goes to people and comes back from them, so any text may be asked for; a
HandlingId is compared with others for equality, and given back. Neither is used for another event or handling, ever.

**Times** are seconds since the epoch, and given by the caller: a journal has no clock of its own.

**Ownership**: where several processes share a journal, each handling is one process's to do at a time. A journal gives
a process only what is its own: in the results of what it writes, in the queue, and to its ``WorkListener``. What a
process says of a handling that is another's by now comes to nothing. Two writes are one process's to make at a time,
and fail with JournalError at any other: ``announce``, at the home of the mirror, and ``rename``, at the leader.

A method is called, a callback called, and a coroutine run in the reactor's thread. How a journal is opened is its own
affair, as is what it is told then of a place, limits and a change of ``problems``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from twisted.python.failure import Failure

from stackit.api.events import RefChange
from stackit.api.threads import MonitoredThread
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
)


class WorkListener(Protocol):
    """The one who hands on the work of a process, told of what other processes record and of what becomes its own."""

    def recorded(self, works: Sequence[tuple[DueHandling, StoredEvent]]) -> None:
        """Take handlings that another process recorded, due now, in the order in which they were recorded.

        An event may come without its body, which ``load`` gives: it is large, or damaged.
        """

    def gained(self) -> None:
        """Read what is due: shards are this process's from now on, or something was missed."""

    def lost(self, shards: Collection[Shard]) -> None:
        """Cancel what is in hand of these shards, and drop what waits: they are another's from now on."""

    async def drain(self, shards: Collection[Shard]) -> None:
        """Begin nothing of these shards any more, and wait for what is in hand. They are given to another then."""


class JournalProtocol(Protocol):
    """The durable record of deliveries and ref changes, and of their outcome at each subscriber.

    Every method raises JournalError, or fails with it, where the journal cannot be written or read now, and after
    ``close``.
    """

    # -- sharing ----------------------------------------------------------------------

    def subscribe(self, subscribers: Mapping[str, Space]) -> None:
        """Have these subscribers (by their key), each with the space of its handlings; before anything is appended."""

    def listen(self, listener: WorkListener) -> None:
        """Tell one who hands on the work of what other processes record, and of what becomes this process's own."""

    def owns(self, shard: Shard) -> bool:
        """Return whether handlings of a shard are this process's to begin now."""

    def watch(self, collection: str, changed: Callable[[frozenset[str] | None], object]) -> None:
        """Call ``changed`` when another process changed documents of a collection: with their keys, or None for any."""

    # -- writing ----------------------------------------------------------------------

    def append(self, delivery: NewDelivery, done: Callable[[AppendResult | Failure], object]) -> None:
        """Record a delivery once, with a pending handling for each of its subscribers, due at once.

        ``done`` is called with the result, or with a Failure of JournalError. A delivery whose id and hook came
        before with the same body is recognised for as long as its event is kept: it is recorded no second time, and

        * handlings that are dead are pending again from the first attempt on, and those that wait for a retry are due
          now (status ``again``);
        * where it has no handling, and somebody wants it now, it is kept as it comes now (``again``);
        * else nothing changes (``duplicate``).

        The body is the same where its digest is the same, or else where its bytes are: the digest is that of a
        signature, and changes with the secret. Another body under a known id is another delivery (``new``, ``reused``),
        unless one of the two came via the API, which writes the same payload in other bytes. A delivery via the API
        whose id and hook are known is a ``duplicate`` in any case.

        A body whose digest was recorded under another delivery id names the first of these in ``replay_of``; with
        ``refuse_replay`` it is recorded without a handling. One event by two hooks is no replay, but handled once where
        replays are refused.

        A callback, and not a coroutine: every delivery passes here, and at its end in ``finish``.
        """

    async def announce(
        self,
        repo: str,
        changes: Sequence[RefChange],
        cause: str,
        delivery: str | None,
        received_at: float,
        subscribers: Sequence[str],
    ) -> AppendResult:
        """Record that refs moved, with a handling for each subscriber, due at once.

        Without a subscriber, its changes are kept where they take at most ``SMALL_ANNOUNCEMENT`` bytes.
        ``announced`` gives the new object ids from then on: in one transaction with the event. Fails with JournalError
        where the mirror's home is another process by now.
        """

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        """Keep small documents by their collection and key, in place of what is there; None deletes one."""

    async def rename(
        self, renames: Sequence[tuple[str, str]], collection: str, documents: Mapping[str, bytes | None]
    ) -> None:
        """Give the announced refs of repositories to other keys, all at once, and put documents, in one transaction.

        Each of ``renames`` is an old key and a new one. Two that swap, and chains, come out right. What was announced
        under a new key that is not renamed itself is forgotten. Deliveries keep the name that they came with. Raises
        ValueError where a key is renamed twice, or two get the same. Fails with JournalError where another process
        leads by now; without any ``renames``, it is a ``put`` by the leader alone.
        """

    def finish(self, handling: HandlingId, done: Callable[[Failure | None], object], *, at: float) -> None:
        """Record that an attempt succeeded: the handling is done, with one attempt more.

        ``done`` is called with None some time after that is durable, at the latest when nothing more is being written,
        or with a Failure of JournalError. A handling that is not there (any more) is no error.
        """

    async def fail(
        self, handling: HandlingId, *, at: float, error: str, next_at: float | None, traceback: str | None = None
    ) -> None:
        """Record that an attempt failed: the handling is pending until ``next_at``, or dead where that is None.

        ``error`` is one line for people, ``traceback`` are some for the author of the handler, which ``tracebacks``
        gives back until the next attempt ends. Characters that cannot be stored are escaped.
        """

    async def give_up(self, event_id: EventId, subscriber: str, *, at: float, error: str) -> bool:
        """Make a handling that is pending a dead letter, with one attempt more, whoever owns it.

        Returns False where it is not pending (any more). Not for one that this process has in hand; what another one
        says of it later comes to nothing.
        """

    async def visible(self, event_id: EventId, at: float) -> bool:
        """Record when the commit of a push became visible in the mirror; return False where that was known already.

        Also False for an event that is not there.
        """

    async def replay(self, event_id: EventId, subscribers: Sequence[str] | None, *, now: float) -> list[DueHandling]:
        """Make an event's handlings pending from the first attempt on: of these subscribers, or all that it has.

        A subscriber that had none gets one. Raises LookupError for an unknown event, ValueError where its body was
        never kept.
        """

    async def replay_dead(self, subscriber: str, *, now: float) -> list[DueHandling]:
        """Make all dead handlings of a subscriber pending from the first attempt on, oldest first.

        In transactions small enough that no delivery waits for them; after a JournalError a part may be done.
        """

    async def move_retries(self, step: float, *, now: float, longest: float) -> None:
        """Move the time of every retry by ``step`` seconds, since the wall clock was set by as much.

        One that would be more than ``longest`` seconds away is due now; so is one that was never tried and lies in the
        future (the clock may be set while stackit is down).
        """

    async def prune(self, now: float) -> int:
        """Forget a few of the events that are too old or too many, none with a pending handling.

        One step, so small that no delivery waits for it. Returns how many went: 0 when there is nothing left to prune.
        An event goes with its handlings and its body, and is not recognised any more.
        """

    # -- the queue --------------------------------------------------------------------

    async def due(self, subscriber: str, now: float, *, group: str, limit: int) -> list[DueHandling]:
        """Return the pending handlings of a subscriber in a group that are due at ``now``, oldest first.

        At most ``limit``. Oldest first is the order in which the handlings were recorded, whatever came of them since;
        where one was recorded later than its event, it may have that one's place.
        """

    async def due_groups(self, subscriber: str, *, now: float) -> list[str]:
        """Return the groups (repository keys, or "") in which something is due, that of the oldest handling first."""

    async def next_due(self, subscriber: str, *, after: float = -math.inf) -> float | None:
        """Return the earliest time, later than ``after``, at which a pending handling of a subscriber is due."""

    async def pending(self) -> dict[str, int]:
        """Return the number of pending handlings of each subscriber that has any, loaded or not: of this process's own.

        Answered in line with the writes: it counts exactly those whose result came before it.
        """

    async def pending_elsewhere(self) -> dict[str, int]:
        """Return the same of all that is not this process's: of the other processes, and of nobody."""

    # -- reading ----------------------------------------------------------------------

    async def announced(self, repo_key: str) -> dict[str, str]:
        """Return the refs of a repository (by its key) as they were last announced, and their object ids."""

    async def documents(self, collection: str, keys: Collection[str] | None = None) -> dict[str, bytes]:
        """Return the documents of a collection by their keys, in the order of the keys; with ``keys``, only these."""

    def documents_now(self, collection: str) -> dict[str, bytes]:
        """Return the same, but block: for the start, before anything listens."""

    async def dead(self) -> dict[str, int]:
        """Return the number of dead handlings of each subscriber that has any."""

    async def subscribers(self) -> set[str]:
        """Return every subscriber that has a handling of any state."""

    async def load(self, event_id: EventId) -> StoredEvent | None:
        """Return an event with its body; None where it is not there (any more).

        Raises Permanent for a body that is damaged: no later try can read it either.
        """

    async def recorded(self, hook: str, deliveries: Sequence[str]) -> set[str]:
        """Return those of these delivery ids that came by this hook, whatever became of them.

        One whose event is no longer kept is not among them.
        """

    async def receipt(self, event_id: EventId) -> Receipt | None:
        """Return an event and its outcome at every subscriber; None where it is not there (any more)."""

    async def tracebacks(self, event_id: EventId) -> dict[str, str]:
        """Return the traceback of the last failed attempt at an event, by subscriber, where ``fail`` was given one.

        A handling that is done has none; one that is tried anew keeps it until the next attempt ends.
        """

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
        """Return a page of the deliveries that pass every filter, newest first.

        ``event="refs_changed"`` lists announcements instead. ``repo`` is compared without regard to case. ``state`` is
        that of any handling, or with ``subscriber`` that of this subscriber's handling; ``done`` also finds what has no
        handling. Those that were received at ``since`` are listed, those at ``until`` are not. At most 500 to a page.
        Pages that follow each other by ``cursor`` show each delivery once, whatever is recorded meanwhile. Raises
        ValueError for a cursor that no page gave out, and for an unknown state.
        """

    # -- health -----------------------------------------------------------------------

    def problems(self) -> list[str]:
        """Return all that is wrong with the journal, one line each with the way out; nothing where all is well.

        To ask has it look whether a problem is over that only the next write would end: the answer to the next question
        has it.
        """

    def threads(self) -> Mapping[str, MonitoredThread]:
        """Return the threads that have to live and move, by their name for people; none where it has none."""

    def files(self) -> Sequence[Path]:
        """Return the files that it keeps, some of which may not be there; none where it has none."""

    async def close(self) -> None:
        """End all writes and questions that were asked for, and release everything. A second call does nothing."""


class SoleOwner:
    """The answers about sharing of a journal that one process has for itself."""

    def subscribe(self, subscribers: Mapping[str, Space]) -> None:
        """Do nothing: wherever a handling is, it is here."""

    def listen(self, listener: WorkListener) -> None:
        """Do nothing: nobody else records anything."""

    def owns(self, shard: Shard) -> bool:  # noqa: ARG002 - there is one
        """Return True: all is this process's."""
        return True

    async def pending_elsewhere(self) -> dict[str, int]:
        """Return nothing: all that is pending is here."""
        return {}

    def watch(self, collection: str, changed: Callable[[frozenset[str] | None], object]) -> None:
        """Do nothing: nobody else changes documents."""
