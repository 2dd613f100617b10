"""Journal to bus: the first try, retries, dead letters, replay, and recovery at start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

import msgspec
from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import JournalError, Permanent, describe, place
from stackit.api.events import DeliveryResult, Event, RefChange, RefsChanged, Repo
from stackit.api.hookspecs import stackit_expect, stackit_refs_changed
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor, sleep
from stackit.bus.bus import Bus
from stackit.bus.subscribers import Subscriber
from stackit.bus.timeouts import wait_or_cancel, with_timeout
from stackit.dispatch.backoff import LONGEST_DELAY, Backoff
from stackit.dispatch.queues import Item, SubscriberQueue
from stackit.dispatch.threads import Threads
from stackit.github.event_types import PING
from stackit.github.payloads import decode
from stackit.journal import AppendResult, DueHandling, Journal, NewDelivery, StoredEvent, decode_changes

_log = Logger(namespace="stackit")

JOURNAL_RETRY = 1.0
"""Seconds between tries to reach the journal while it is in trouble."""
CLOCK_STEP = 1.0
"""Seconds by which the wall clock may drift before the retries in the journal, which go by it, are moved."""

Answer = TypeVar("Answer")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What holds unless a handler says otherwise, and for all of them together.

    ``timeout`` is in seconds (0 for none), ``concurrency`` in events, ``grace`` in seconds.
    With ``refuse_replays``, a body that comes back under a new delivery id reaches nobody.
    """

    timeout: float
    concurrency: int
    grace: float
    refuse_replays: bool = False


class Dispatch:
    """Hands each durable event to each of its subscribers, and writes down what became of it."""

    __slots__ = (
        "_ahead",
        "_background",
        "_backoff",
        "_bus",
        "_journal",
        "_limits",
        "_now",
        "_pending",
        "_queues",
        "_reactor",
        "_stopping",
        "_threads",
        "_timers",
    )

    def __init__(
        self,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        bus: Bus,
        journal: Journal,
        backoff: Backoff,
        limits: Limits,
    ) -> None:
        """``now`` is the wall clock, which the journal's times are of."""
        self._reactor = reactor
        self._now = now
        self._ahead = now() - reactor.seconds()  # of the reactor's clock: it changes when somebody sets the wall clock
        self._bus = bus
        self._journal = journal
        self._backoff = backoff
        self._limits = limits
        self._queues: dict[str, SubscriberQueue] = {}
        self._pending: Counter[str] = Counter()
        self._threads: dict[str, Threads] = {}
        self._timers: dict[str, DelayedCall] = {}
        self._background: set[Deferred[Any]] = set()
        self._stopping = False

    # -- life ---------------------------------------------------------------------

    def open_queues(self) -> None:
        """Give every subscriber its queue: from here on what is taken is handed on."""
        for subscriber in self._bus.subscribers():
            concurrency = subscriber.options.concurrency or self._limits.concurrency
            self._queues[subscriber.key] = SubscriberQueue(
                subscriber, concurrency=concurrency, handle=self._handle, read=self._read
            )
            if subscriber.options.thread:
                self._threads[subscriber.key] = Threads(self._reactor, concurrency)

    async def recover(self) -> None:
        """Hand on what was pending when the last process ended."""
        await self._spawn(self._recover())

    async def _recover(self) -> None:
        await self._recount()
        before = {key: count for key, count in self._pending.items() if count}
        await self._move_retries(0.0)
        for key in self._queues:
            if key in before:
                self._bus.observe(Occurrence(name="recovered", subscriber=self._bus.display(key), count=before[key]))
            await self._wake(key)
        for key, count in before.items():
            if key not in self._queues:
                reason = f"{count} events wait for {key}, which is not loaded"
                self._bus.observe(Occurrence(name="notice", subscriber=key, count=count, reason=reason))

    async def stop(self) -> None:
        """Let what is in hand finish within the grace; the rest stays pending for the next start."""
        self._stopping = True
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()
        await wait_or_cancel(self._reactor, [queue.stop() for queue in self._queues.values()], self._limits.grace)
        for each in list(self._background):
            each.cancel()

    def pending(self) -> Mapping[str, int]:
        """How many events each subscriber still has to handle, by its name for people."""
        known = Counter({self._bus.display(key): 0 for key in self._queues})
        for key, count in self._pending.items():
            known[self._bus.display(key)] += count
        return known

    def queues(self) -> Mapping[str, SubscriberQueue]:
        """The queue of each subscriber, by its key."""
        return self._queues

    def has_due(self, queue: SubscriberQueue) -> bool:
        """Whether something should have its turn: in the queue, or left in the journal with no time to look there."""
        if queue.waits():
            return True
        key = queue.subscriber.key
        timer = self._timers.get(key)
        return self._pending[key] > 0 and queue.is_empty() and not (timer is not None and timer.active())

    # -- in -----------------------------------------------------------------------

    def take(self, event: Event, digest: bytes, done: Callable[[DeliveryResult | Failure], object]) -> None:
        """Make a verified event durable, and hand it to its subscribers; a ping has none.

        ``digest`` is what its body is recognised by. ``done`` gets what became of it, or a Failure of JournalError
        where it cannot be made durable now.
        """
        subscribers = () if event.name == PING else self._bus.wanted_by(event)
        if subscribers and not self._limits.refuse_replays:  # of a replay, only the journal knows that it is one
            self._bus.notify(stackit_expect, event)
        record = NewDelivery(
            hook=event.hook,
            delivery=event.delivery,
            event=event.name,
            action=event.action,
            repo=str(event.repo) if event.repo else None,
            received_at=event.received_at,
            digest=digest,
            body=event.body,
            subscribers=subscribers,
            refuse_replay=self._limits.refuse_replays,
        )
        self._journal.append(record, partial(self._taken, event, bool(subscribers), done))

    def _taken(
        self,
        event: Event,
        handled: bool,
        done: Callable[[DeliveryResult | Failure], object],
        appended: AppendResult | Failure,
    ) -> None:
        if isinstance(appended, Failure):
            done(appended)
            return
        if appended.replay_of is not None:
            self._bus.observe(
                Occurrence(
                    name="replayed",
                    delivery=event.delivery,
                    repo=event.repo,
                    event=event.name,
                    reason=appended.replay_of,
                )
            )
        if appended.reused and appended.replay_of is None:
            reason = "the delivery id came before, with another body: this is taken as a new delivery"
            self._bus.observe(
                Occurrence(
                    name="notice",
                    delivery=event.delivery,
                    repo=event.repo,
                    event=event.name,
                    id=str(appended.id),
                    reason=reason,
                )
            )
        taken = DeliveryResult(
            id=str(appended.id),
            duplicate=appended.status == "duplicate",
            handled=handled,
            refused=self._limits.refuse_replays and appended.replay_of is not None,
        )
        try:
            self._offer(appended, event)
        finally:
            done(taken)  # it is durable, whatever becomes of handing it on

    async def announce(self, repo: Repo, changes: tuple[RefChange, ...], cause: str, delivery: str | None) -> None:
        """Make moved refs durable together with the record of what was announced, and hand them on."""
        received_at = self._now()
        keys = [each.key for each in self._bus.subscribers(stackit_refs_changed)]
        appended = await self._journal.announce(str(repo), changes, cause, delivery, received_at, keys)
        self._bus.observe(
            Occurrence(
                name="refs_changed", repo=repo, changes=changes, cause=cause, delivery=delivery, count=len(changes)
            )
        )
        change = RefsChanged(repo=repo, changes=changes, cause=cause, delivery=delivery, received_at=received_at)
        self._offer(appended, change)

    async def replay(self, event_id: int, subscribers: Sequence[str] | None) -> int:
        """Handle an event again, for these subscribers (keys) or for all that had it.

        Returns for how many. Raises LookupError for an unknown id, ValueError where the
        body is no longer kept.
        """
        handlings = await self._journal.replay(event_id, subscribers, now=self._now())
        self._take_up(handlings)
        return len(handlings)

    async def replay_dead(self, subscriber: str) -> int:
        """Handle every dead letter of a subscriber (key) again; returns how many."""
        handlings = await self._journal.replay_dead(subscriber, now=self._now())
        self._take_up(handlings)
        return len(handlings)

    def look_again(self) -> None:
        """Hand on what is pending in the journal, and not in hand: a commit that failed may be there all the same."""
        self._leave(self._again(self._queues))

    def _take_up(self, handlings: Sequence[DueHandling]) -> None:
        self._leave(self._again({handling.subscriber for handling in handlings}))

    async def _again(self, keys: Iterable[str]) -> None:
        await self._recount()
        for key in self._queues.keys() & keys:
            await self._wake(key)

    def _offer(self, appended: AppendResult, event: Event | RefsChanged) -> None:
        if appended.status == "again":
            self._take_up(appended.handlings)
            return
        for handling in appended.handlings:
            self._pending[handling.subscriber] += 1
            if handling.subscriber in self._queues:
                # Each handler has an event of its own, now with its id: none sees what another did to the payload.
                self._queues[handling.subscriber].offer(handling, msgspec.structs.replace(event, id=str(appended.id)))

    # -- out ----------------------------------------------------------------------

    def _handle(self, queue: SubscriberQueue, item: Item) -> None:
        began = self._reactor.seconds()
        event = item.event
        running = None if event is None else self._call(queue.subscriber, event)
        if event is None or running is not None:
            item.start(self._handle_later(queue, item, running, began))
            return
        # Through already, as most are: there is nothing to wait for but the journal.
        queue.handled(item)
        seconds = self._reactor.seconds() - began
        self._journal.finish(item.handling.id, partial(self._finished, queue, item, seconds), at=self._now())

    def _finished(self, queue: SubscriberQueue, item: Item, seconds: float, failure: Failure | None) -> None:
        if failure is None:
            self._done(queue, item, item.event, seconds)
            queue.ended(item)
        elif self._stopping:
            queue.ended(item)  # it stays pending, and is handled again after the next start
        else:
            item.start(self._finish_again(queue, item, seconds))

    async def _finish_again(self, queue: SubscriberQueue, item: Item, seconds: float) -> None:
        await sleep(self._reactor, JOURNAL_RETRY)
        await self._finish_later(queue, item, item.event, seconds)

    async def _handle_later(
        self, queue: SubscriberQueue, item: Item, running: Deferred[Exception | None] | None, began: float
    ) -> None:
        subscriber, event = queue.subscriber, item.event
        fault: Exception | None = None
        try:
            if event is None:
                event = await self._load(item.handling)
                # Without a body by now, there is nothing that could be handled.
                running = None if event is None else self._call(subscriber, event)
            if running is not None:
                fault = await running
        except Exception as problem:  # noqa: BLE001 - whatever is wrong with what was stored is the outcome of this handling alone
            fault = problem
        if self._stopping and isinstance(fault, CancelledError | JournalError):
            return  # out of grace: it stays pending, and is handled after the next start
        seconds = self._reactor.seconds() - began
        if fault is not None:
            await self._fail(subscriber, item.handling, event, fault, seconds)
            return
        queue.handled(item)
        await self._finish_later(queue, item, event, seconds)

    async def _finish_later(
        self, queue: SubscriberQueue, item: Item, event: Event | RefsChanged | None, seconds: float
    ) -> None:
        await self._retry_journal(lambda: self._finish(item.handling.id))
        self._done(queue, item, event, seconds)

    def _finish(self, handling: int) -> Deferred[None]:
        written: Deferred[None] = Deferred()
        self._journal.finish(handling, written.callback, at=self._now())
        return written

    def _done(self, queue: SubscriberQueue, item: Item, event: Event | RefsChanged | None, seconds: float) -> None:
        self._pending[item.handling.subscriber] -= 1
        if event is not None:
            self._report("handled", queue.subscriber, item.handling, event, seconds)

    def _call(self, subscriber: Subscriber, event: Event | RefsChanged) -> Deferred[Exception | None] | None:
        """Run the handler: None where it is through at once, else what it fails with, or None, bounded in time."""
        threads = self._threads.get(subscriber.key)
        # What it sets in its context (contextvars) is for this call of it alone.
        running = copy_context().run(subscriber.call, event) if threads is None else threads.call(subscriber.run, event)
        if running is None:
            return None
        # What it raised is handed on as a value: raised once more, it could do to us what it did to the handler.
        return with_timeout(self._reactor, running, self.timeout(subscriber)).addCallbacks(_nothing, _fault)

    def timeout(self, subscriber: Subscriber) -> float:
        """Seconds that a handler has for an event; 0 for no limit."""
        timeout = subscriber.options.timeout
        return self._limits.timeout if timeout is None else timeout

    async def _fail(
        self,
        subscriber: Subscriber,
        handling: DueHandling,
        event: Event | RefsChanged | None,
        fault: Exception,
        seconds: float,
    ) -> None:
        now = await self._time()
        delay = None if isinstance(fault, Permanent) else self._backoff.delay(handling.attempts + 1)
        error = describe(fault, self._bus.redact)
        next_at = None if delay is None else now + delay
        await self._retry_journal(lambda: self._journal.fail(handling.id, at=now, error=error, next_at=next_at))
        if delay is None:
            self._pending[handling.subscriber] -= 1
            self._report("dead", subscriber, handling, event, seconds, error=error)
        else:
            self._report("failed", subscriber, handling, event, seconds, error=error, retry_in=delay)
            self._set_timer(handling.subscriber, delay)

    def _report(
        self,
        name: Any,
        subscriber: Subscriber,
        handling: DueHandling,
        event: Event | RefsChanged | None,
        seconds: float,
        *,
        error: str | None = None,
        retry_in: float | None = None,
    ) -> None:
        self._bus.observe(
            Occurrence(
                name=name,
                subscriber=self._bus.display(subscriber.key),
                event=getattr(event, "name", None),
                action=getattr(event, "action", None),
                repo=getattr(event, "repo", None),
                delivery=getattr(event, "delivery", None),
                id=str(handling.event_id),
                attempts=handling.attempts + 1,
                seconds=seconds,
                error=error,
                retry_in=retry_in,
            )
        )

    # -- the journal as the queue --------------------------------------------------

    def _read(self, key: str, group: str, limit: int) -> Deferred[list[DueHandling]]:
        return Deferred.fromCoroutine(self._due(key, group, limit))

    async def _due(self, key: str, group: str, limit: int) -> list[DueHandling]:
        now = await self._time()
        handlings = await self._retry_journal(lambda: self._journal.due(key, now, group=group, limit=limit))
        if len(handlings) < limit:
            await self._set_timer_after(key, now)
        return handlings

    async def _wake(self, key: str) -> None:
        now = await self._time()
        self._queues[key].wake(await self._retry_journal(lambda: self._journal.due_groups(key, now=now)))
        await self._set_timer_after(key, now)

    async def _set_timer_after(self, key: str, now: float) -> None:
        next_at = await self._retry_journal(lambda: self._journal.next_due(key, after=now))
        if next_at is not None:
            self._set_timer(key, max(0.0, next_at - now))

    def _set_timer(self, key: str, delay: float) -> None:
        timer = self._timers.get(key)
        if self._stopping or (
            timer is not None and timer.active() and timer.getTime() <= self._reactor.seconds() + delay
        ):
            return
        if timer is not None and timer.active():
            timer.cancel()
        self._timers[key] = self._reactor.callLater(delay, lambda: self._leave(self._wake(key)))

    async def _time(self) -> float:
        """The wall clock. Where it was set, the retries in the journal come as long from now as before."""
        ahead = self._now() - self._reactor.seconds()
        step = ahead - self._ahead
        if abs(step) > CLOCK_STEP:
            self._ahead = ahead
            await self._move_retries(step)
            self.look_again()  # who asked the journal meanwhile saw times of the clock before
        return self._now()

    async def _move_retries(self, step: float) -> None:
        await self._retry_journal(lambda: self._journal.move_retries(step, now=self._now(), longest=LONGEST_DELAY))

    async def _load(self, handling: DueHandling) -> Event | RefsChanged | None:
        stored = await self._retry_journal(lambda: self._journal.load(handling.event_id))
        return None if stored is None else restore(stored)

    async def _recount(self) -> None:
        self._pending = Counter(await self._retry_journal(self._journal.pending))

    async def _retry_journal(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """What the journal answers, asked again for as long as it is in trouble and stackit runs."""
        while True:
            try:
                return await ask()
            except JournalError:
                if self._stopping:
                    raise
                await sleep(self._reactor, JOURNAL_RETRY)

    def _leave(self, running: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run what nobody waits for. Where it fails, what is due is left in the journal until somebody looks again."""
        self._spawn(running).addErrback(_not_read)

    def _spawn(self, running: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        task = Deferred.fromCoroutine(running)
        self._background.add(task)

        def ended(result: Failure | None) -> Failure | None:
            self._background.discard(task)
            if isinstance(result, Failure) and self._stopping and result.check(CancelledError, JournalError):
                return None
            return result

        return task.addBoth(ended)


def _not_read(failure: Failure) -> None:
    fault = failure.value
    _log.error("what is due cannot be read: {problem}{place}", problem=describe(fault), place=place(fault))


def _nothing(_result: object) -> None:
    """What a handler returns is nobody's."""


def _fault(failure: Failure) -> Any:
    return failure.value


def restore(stored: StoredEvent) -> Event | RefsChanged | None:
    """An event as it was handed on the first time; None where its body is gone."""
    if stored.body is None:
        return None
    if stored.kind == "refs":
        return decode_changes(stored)
    return decode(
        stored.event,
        stored.body,
        id=str(stored.id),
        delivery=stored.delivery or "",
        hook=stored.hook,
        received_at=stored.received_at,
    )
