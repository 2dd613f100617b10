"""A journal in memory: the promises of ``JournalProtocol`` without a file, a thread or SQL.

Nothing survives the process. Its ids look like those of no other journal, and have no order.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.events import RefChange, Via
from stackit.api.reactor import Reactor
from stackit.api.threads import MonitoredThread
from stackit.journal import (
    AppendResult,
    DueHandling,
    EventId,
    HandlingId,
    HandlingRow,
    JournalProtocol,
    NewDelivery,
    Page,
    Receipt,
    SoleOwner,
    StoredEvent,
)
from stackit.journal.records import (
    REFS_EVENT,
    SMALL_ANNOUNCEMENT,
    STATES,
    EventKind,
    State,
    check_renames,
    encode_changes,
    repo_key,
)

T = TypeVar("T")
_STEP = 100


class _Handling(msgspec.Struct, eq=False):
    id: HandlingId
    event: _Event
    subscriber: str
    group: str
    next_at: float | None
    state: State = "pending"
    attempts: int = 0
    error: str | None = None
    finished_at: float | None = None
    traceback: str | None = None

    def due(self) -> DueHandling:
        return DueHandling(self.id, self.event.id, self.subscriber, self.group, self.attempts, self.event.size)

    def retry(self, attempts: int, error: str | None, at: float) -> None:
        self.state, self.attempts, self.error, self.next_at, self.finished_at = "pending", attempts, error, at, None
        self.traceback = None if error is None else self.traceback

    def end(self, state: State, at: float | None, error: str | None, next_at: float | None) -> None:
        self.state, self.finished_at, self.error, self.next_at = state, at, error, next_at
        self.traceback = None
        self.attempts += 1


class _Event(msgspec.Struct, eq=False, kw_only=True):
    id: EventId
    kind: EventKind
    hook: str
    delivery: str | None
    event: str
    action: str | None
    repo: str | None
    received_at: float
    digest: bytes | None
    size: int
    signer: str = ""
    via: Via = "webhook"
    body: bytes | None = None
    replay_of: str | None = None
    visible_at: float | None = None
    handlings: list[_Handling] = []

    def state(self) -> State:
        states = {each.state for each in self.handlings}
        return next((each for each in ("pending", "dead") if each in states), "done")


class MemoryJournal(SoleOwner, JournalProtocol):
    """A journal that forgets everything when it is closed. ``prune`` keeps events for ``keep_for`` seconds."""

    def __init__(self, reactor: Reactor, *, keep_for: float = 7 * 86400) -> None:
        self._reactor = reactor
        self._keep_for = keep_for
        self._events: dict[EventId, _Event] = {}
        self._handlings: dict[HandlingId, _Handling] = {}
        self._refs: dict[str, dict[str, str]] = {}
        self._documents: dict[str, dict[str, bytes]] = {}
        self._numbers = itertools.count(2**40, -7)
        self._cursors: dict[str, EventId] = {}
        self._writes: list[tuple[Callable[[], Any], Deferred[Any]]] = []
        self._closed = False

    # -- one write after the other ------------------------------------------------------

    def _write(self, operation: Callable[[], T]) -> Deferred[T]:
        result: Deferred[T] = Deferred()
        if self._closed:
            result.errback(JournalError("the journal is closed"))
            return result
        self._writes.append((operation, result))
        if len(self._writes) == 1:
            self._reactor.callLater(0, self._commit)
        return result

    def _commit(self) -> None:
        writes, self._writes = self._writes, []
        for operation, result in writes:
            try:
                done = operation()
            except (LookupError, ValueError):
                result.errback(Failure())
            except TypeError as fault:
                result.errback(JournalError(f"the journal refused a record: {fault}"))
            else:
                result.callback(done)

    async def _ask(self, question: Callable[[], T]) -> T:
        if self._closed:
            raise JournalError("the journal is closed")
        return question()

    # -- writing ------------------------------------------------------------------------

    def append(self, delivery: NewDelivery, done: Callable[[AppendResult | Failure], object]) -> None:
        self._write(lambda: self._append(delivery)).addBoth(done)

    def _append(self, delivery: NewDelivery) -> AppendResult:
        msgspec.msgpack.encode((delivery.event, delivery.received_at + 0.0, delivery.digest, delivery.body))
        of_that_id = [each for each in self._deliveries(delivery.delivery) if each.hook == delivery.hook]
        known = next((each for each in of_that_id if _is_same(each, delivery)), None)
        first = next((each.delivery for each in self._events.values() if each.digest == delivery.digest), None)
        if first == delivery.delivery:
            first = None
            if known is None and delivery.refuse_replay:
                copies = (each for each in self._deliveries(delivery.delivery) if each.digest == delivery.digest)
                known = next(copies, None)
        if known is not None:
            return self._append_again(known, delivery, first)
        event = self._add("delivery", delivery, first)
        return AppendResult(event.id, "new", self._want(event, delivery), first, reused=bool(of_that_id))

    def _append_again(self, event: _Event, delivery: NewDelivery, first: str | None) -> AppendResult:
        if delivery.via == "api":
            return AppendResult(event.id, "duplicate", (), event.replay_of)
        if not event.handlings:
            is_another = event.replay_of is None and event.digest != delivery.digest
            replay_of = first if is_another else event.replay_of
            if not _wanted(delivery, replay_of):
                return AppendResult(event.id, "duplicate", (), replay_of)
            event.event, event.action, event.repo = delivery.event, delivery.action, delivery.repo
            event.digest, event.size, event.replay_of = delivery.digest, len(delivery.body), replay_of
            event.signer, event.via = delivery.signer, delivery.via
            return AppendResult(event.id, "again", self._want(event, delivery), replay_of)
        reopened = []
        for each in event.handlings:
            if each.state == "dead" or (each.state == "pending" and each.attempts):
                each.retry(0 if each.state == "dead" else each.attempts, each.error, delivery.received_at)
                reopened.append(each.due())
        return AppendResult(event.id, "again" if reopened else "duplicate", tuple(reopened), event.replay_of)

    def _want(self, event: _Event, delivery: NewDelivery) -> tuple[DueHandling, ...]:
        wanted = _wanted(delivery, event.replay_of)
        if wanted:
            event.body = delivery.body
        return self._make_due(event, wanted, delivery.received_at)

    def _add(self, kind: EventKind, delivery: NewDelivery, replay_of: str | None) -> _Event:
        event = _Event(
            id=EventId(f"memory-{uuid4()}"),
            kind=kind,
            hook=delivery.hook,
            delivery=delivery.delivery,
            event=delivery.event,
            action=delivery.action,
            repo=delivery.repo,
            received_at=delivery.received_at,
            digest=delivery.digest,
            size=len(delivery.body),
            signer=delivery.signer,
            via=delivery.via,
            replay_of=replay_of,
        )
        self._events[event.id] = event
        return event

    def _make_due(self, event: _Event, subscribers: Sequence[str], at: float) -> tuple[DueHandling, ...]:
        made = [
            _Handling(HandlingId(next(self._numbers)), event, subscriber, repo_key(event.repo), at)
            for subscriber in subscribers
        ]
        event.handlings.extend(made)
        self._handlings.update({each.id: each for each in made})
        return tuple(each.due() for each in made)

    def _deliveries(self, delivery: str) -> Iterator[_Event]:
        return (each for each in self._events.values() if each.kind == "delivery" and each.delivery == delivery)

    async def announce(
        self,
        repo: str,
        changes: Sequence[RefChange],
        cause: str,
        delivery: str | None,
        received_at: float,
        subscribers: Sequence[str],
    ) -> AppendResult:
        def operation() -> AppendResult:
            body = encode_changes(changes, cause)
            event = _Event(
                id=EventId(f"memory-{uuid4()}"),
                kind="refs",
                hook="",
                delivery=delivery,
                event=REFS_EVENT,
                action=None,
                repo=repo,
                received_at=received_at,
                digest=None,
                size=len(body),
                body=body if subscribers or len(body) <= SMALL_ANNOUNCEMENT else None,
            )
            self._events[event.id] = event
            refs = self._refs.setdefault(repo_key(repo), {})
            for change in changes:
                if change.kind == "deleted":
                    refs.pop(change.ref, None)
                else:
                    refs[change.ref] = change.new
            return AppendResult(event.id, "new", self._make_due(event, subscribers, received_at))

        return await self._write(operation)

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        await self.rename((), collection, documents)

    async def rename(
        self, renames: Sequence[tuple[str, str]], collection: str, documents: Mapping[str, bytes | None]
    ) -> None:
        check_renames(renames)

        def operation() -> None:
            msgspec.msgpack.encode(dict(documents))
            moved = {new: self._refs.pop(old, {}) for old, new in renames}
            self._refs.update(moved)
            kept = self._documents.get(collection, {}) | dict(documents)
            self._documents[collection] = {key: each for key, each in sorted(kept.items()) if each is not None}

        await self._write(operation)

    def finish(self, handling: HandlingId, done: Callable[[Failure | None], object], *, at: float) -> None:
        def operation() -> None:
            if handling in self._handlings:
                self._handlings[handling].end("done", at, None, None)

        self._write(operation).addBoth(done)

    async def fail(
        self, handling: HandlingId, *, at: float, error: str, next_at: float | None, traceback: str | None = None
    ) -> None:
        def operation() -> None:
            dead = next_at is None
            if handling in self._handlings:
                self._handlings[handling].end("dead" if dead else "pending", at if dead else None, error, next_at)
                self._handlings[handling].traceback = traceback

        await self._write(operation)

    async def give_up(self, event_id: EventId, subscriber: str, *, at: float, error: str) -> bool:
        def operation() -> bool:
            event = self._events.get(event_id)
            for each in () if event is None else event.handlings:
                if each.subscriber == subscriber and each.state == "pending":
                    each.end("dead", at, error, None)
                    return True
            return False

        return await self._write(operation)

    async def visible(self, event_id: EventId, at: float) -> bool:
        def operation() -> bool:
            event = self._events.get(event_id)
            if event is None or event.visible_at is not None:
                return False
            event.visible_at = at
            return True

        return await self._write(operation)

    async def replay(self, event_id: EventId, subscribers: Sequence[str] | None, *, now: float) -> list[DueHandling]:
        def operation() -> list[DueHandling]:
            event = self._events.get(event_id)
            if event is None:
                raise LookupError("there is no such delivery")
            there = {each.subscriber: each for each in event.handlings}
            if not there:
                raise ValueError("the payload is not kept: nothing handled it when it came")
            replayed: list[DueHandling] = []
            for subscriber in there if subscribers is None else dict.fromkeys(subscribers):
                if subscriber in there:
                    there[subscriber].retry(0, None, now)
                    replayed.append(there[subscriber].due())
                else:
                    replayed += self._make_due(event, [subscriber], now)
            return replayed

        return await self._write(operation)

    async def replay_dead(self, subscriber: str, *, now: float) -> list[DueHandling]:
        def operation() -> list[DueHandling]:
            dead = [
                each
                for event in self._events.values()
                for each in event.handlings
                if each.subscriber == subscriber and each.state == "dead"
            ]
            for each in dead:
                each.retry(0, None, now)
            return [each.due() for each in dead]

        return await self._write(operation)

    async def move_retries(self, step: float, *, now: float, longest: float) -> None:
        def operation() -> None:
            for each in self._pending():
                assert each.next_at is not None
                if each.next_at > now or (each.attempts and step):
                    moved = each.next_at + step
                    each.next_at = now if not each.attempts or moved > now + longest else moved

        await self._write(operation)

    async def prune(self, now: float) -> int:
        def operation() -> int:
            old = [each for each in self._events.values() if each.received_at < now - self._keep_for]
            gone = [each for each in old if each.state() != "pending"][:_STEP]
            for event in gone:
                del self._events[event.id]
                for handling in event.handlings:
                    del self._handlings[handling.id]
            return len(gone)

        return await self._write(operation)

    # -- the queue ----------------------------------------------------------------------

    def _pending(self, subscriber: str | None = None) -> Iterator[_Handling]:
        """Pending handlings of one subscriber or all, in the order in which they arose."""
        for each in self._handlings.values():
            if each.state == "pending" and subscriber in (None, each.subscriber):
                yield each

    def _due(self, subscriber: str, now: float) -> Iterator[_Handling]:
        return (each for each in self._pending(subscriber) if each.next_at is not None and each.next_at <= now)

    async def due(self, subscriber: str, now: float, *, group: str, limit: int) -> list[DueHandling]:
        return await self._ask(
            lambda: [each.due() for each in self._due(subscriber, now) if each.group == group][:limit]
        )

    async def due_groups(self, subscriber: str, *, now: float) -> list[str]:
        return await self._ask(lambda: list(dict.fromkeys(each.group for each in self._due(subscriber, now))))

    async def next_due(self, subscriber: str, *, after: float = -math.inf) -> float | None:
        times = await self._ask(lambda: [each.next_at for each in self._pending(subscriber)])
        return min((each for each in times if each is not None and each > after), default=None)

    async def pending(self) -> dict[str, int]:
        return await self._write(lambda: dict(Counter(each.subscriber for each in self._pending())))

    # -- reading ------------------------------------------------------------------------

    async def announced(self, repo_key: str) -> dict[str, str]:
        return await self._ask(lambda: dict(self._refs.get(repo_key, {})))

    async def documents(self, collection: str, keys: Collection[str] | None = None) -> dict[str, bytes]:
        found = await self._ask(lambda: MemoryJournal.documents_now(self, collection))
        return {key: each for key, each in found.items() if keys is None or key in keys}

    def documents_now(self, collection: str) -> dict[str, bytes]:
        if self._closed:
            raise JournalError("the journal is closed")
        return dict(self._documents.get(collection, {}))

    async def dead(self) -> dict[str, int]:
        return await self._ask(
            lambda: dict(Counter(each.subscriber for each in self._handlings.values() if each.state == "dead"))
        )

    async def subscribers(self) -> set[str]:
        return await self._ask(lambda: {each.subscriber for each in self._handlings.values()})

    async def load(self, event_id: EventId) -> StoredEvent | None:
        event = await self._ask(lambda: self._events.get(event_id))
        return None if event is None else StoredEvent(**_fields(event, StoredEvent))

    async def recorded(self, hook: str, deliveries: Sequence[str]) -> set[str]:
        wanted = set(deliveries)
        return await self._ask(
            lambda: {
                each.delivery
                for each in self._events.values()
                if each.kind == "delivery" and each.hook == hook and each.delivery in wanted
            }
        )

    async def receipt(self, event_id: EventId) -> Receipt | None:
        event = await self._ask(lambda: self._events.get(event_id))
        return None if event is None else _receipt(event)

    async def tracebacks(self, event_id: EventId) -> dict[str, str]:
        event = await self._ask(lambda: self._events.get(event_id))
        found = {} if event is None else {each.subscriber: each.traceback for each in event.handlings}
        return {subscriber: text for subscriber, text in found.items() if text is not None}

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
        if state not in (None, *STATES):
            raise ValueError(f"not a state: {state}")
        if cursor is not None and cursor not in self._cursors:
            raise ValueError("not a cursor")
        events = await self._ask(lambda: list(self._events.values())[::-1])
        if cursor is not None:
            events = list(itertools.dropwhile(lambda each: each.id != self._cursors[cursor], events))[1:]
        kind = "refs" if event == REFS_EVENT else "delivery"
        found = [
            each
            for each in events
            if each.kind == kind
            and event in (None, each.event)
            and delivery in (None, each.delivery)
            and (repo is None or repo_key(each.repo) == repo_key(repo))
            and (since is None or each.received_at >= since)
            and (until is None or each.received_at < until)
            and _has_state(each, state, subscriber)
        ]
        limit = min(max(limit, 1), 500)
        page = [_receipt(each) for each in found[:limit]]
        if len(found) <= limit:
            return Page(page, None)
        following = f"after {len(self._cursors)}"
        self._cursors[following] = page[-1].id
        return Page(page, following)

    # -- health -------------------------------------------------------------------------

    def problems(self) -> list[str]:
        return []

    def threads(self) -> Mapping[str, MonitoredThread]:
        return {}

    def files(self) -> Sequence[Path]:
        return ()

    async def close(self) -> None:
        if not self._closed:
            await self._write(lambda: None)
            self._closed = True


def _is_same(event: _Event, delivery: NewDelivery) -> bool:
    if "api" in (event.via, delivery.via):
        return True
    if event.digest == delivery.digest or event.size != len(delivery.body):
        return event.digest == delivery.digest
    return event.body is None or event.body == delivery.body


def _wanted(delivery: NewDelivery, replay_of: str | None) -> tuple[str, ...]:
    return () if delivery.refuse_replay and replay_of is not None else delivery.subscribers


def _has_state(event: _Event, state: str | None, subscriber: str | None) -> bool:
    if subscriber is None:
        return state in (None, *(each.state for each in event.handlings)) or (state == "done" and not event.handlings)
    return any(each.subscriber == subscriber and state in (None, each.state) for each in event.handlings)


def _fields(event: object, wanted: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: getattr(event, name) for name in wanted.__struct_fields__ if hasattr(event, name)}


def _receipt(event: _Event) -> Receipt:
    handlings = tuple(HandlingRow(**_fields(each, HandlingRow)) for each in event.handlings)
    return Receipt(**{**_fields(event, Receipt), "state": event.state(), "handlings": handlings})
