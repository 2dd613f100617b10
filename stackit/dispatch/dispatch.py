"""From an event that comes in to its subscribers: durable first, then handed on; replay, recovery, and the stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import msgspec
from twisted.python.failure import Failure

from stackit.api.events import DeliveryResult, Event, RefChange, RefsChanged, Repo
from stackit.api.hookspecs import stackit_expect, stackit_mirror, stackit_refs_changed
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.bus.bus import Bus
from stackit.bus.subscribers import Subscriber
from stackit.bus.timeouts import wait_or_cancel
from stackit.dispatch.backlog import Backlog
from stackit.dispatch.backoff import Backoff
from stackit.dispatch.handling import Handler, Restore
from stackit.dispatch.queues import SubscriberQueue
from stackit.dispatch.threads import Threads
from stackit.journal import AppendResult, DueHandling, EventId, JournalProtocol, NewDelivery, StoredEvent


class HandlerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults of each handler, and the limits of all of them together.

    ``timeout`` is in seconds (0 for none), ``concurrency`` in events, ``grace`` in seconds.
    With ``refuse_replays``, a body that comes back under a new delivery id is handed to no subscriber.
    """

    timeout: float
    concurrency: int
    grace: float
    refuse_replays: bool = False


class Dispatch:
    """Make each event durable, and hand it to each of its subscribers.

    The parts: a ``SubscriberQueue`` for each subscriber, the ``Backlog`` that reads from the journal into the queues,
    and a ``Handling`` for each event in a handler.
    """

    __slots__ = (
        "_backlog",
        "_backoff",
        "_bus",
        "_handlers",
        "_is_ping",
        "_journal",
        "_limits",
        "_now",
        "_queues",
        "_reactor",
        "_restore",
    )

    def __init__(
        self,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        bus: Bus,
        journal: JournalProtocol,
        backoff: Backoff,
        limits: HandlerLimits,
        restore: Restore,
        is_ping: Callable[[Event], bool],
    ) -> None:
        """``now`` is the wall clock, in which the journal counts.

        ``restore`` makes an event of a stored one; ``is_ping`` tells an event that no handler is to have.
        """
        self._reactor = reactor
        self._now = now
        self._bus = bus
        self._journal = journal
        self._backoff = backoff
        self._limits = limits
        self._restore = restore
        self._is_ping = is_ping
        self._queues: dict[str, SubscriberQueue] = {}
        self._handlers: dict[str, Handler] = {}
        self._backlog = Backlog(reactor=reactor, now=now, journal=journal, queues=self._queues)

    # -- start and stop -----------------------------------------------------------

    def open_queues(self) -> None:
        """Give every subscriber its queue: from here on events are handed on."""
        for subscriber in self._bus.subscribers():
            concurrency = self._concurrency(subscriber)
            self._handlers[subscriber.key] = handler = Handler(
                subscriber,
                reactor=self._reactor,
                now=self._now,
                bus=self._bus,
                journal=self._journal,
                backlog=self._backlog,
                backoff=self._backoff,
                restore=self._restored,
                timeout=self.timeout(subscriber),
                threads=Threads(self._reactor, concurrency) if subscriber.options.thread else None,
            )
            self._queues[subscriber.key] = SubscriberQueue(
                subscriber, concurrency=concurrency, handle=handler.handle, read=self._backlog.read
            )

    def change(self, limits: HandlerLimits, backoff: Backoff) -> None:
        """Take other limits and delays: for events that are handed to a handler from now on."""
        self._limits, self._backoff = limits, backoff
        for key, queue in self._queues.items():
            concurrency = self._concurrency(queue.subscriber)
            self._handlers[key].change(timeout=self.timeout(queue.subscriber), backoff=backoff, concurrency=concurrency)
            queue.change_concurrency(concurrency)

    async def recover(self) -> None:
        """Hand on the events that were pending when the last process ended."""
        await self._backlog.track(self._recover())

    async def _recover(self) -> None:
        left = await self._backlog.recover()
        for key in self._queues:
            if key in left:
                self._bus.observe(Occurrence(name="recovered", subscriber=self._bus.display(key), count=left[key]))
            await self._backlog.wake(key)
        for key, count in left.items():
            if key not in self._queues:
                reason = f"{count} events wait for {key}, which is not loaded"
                self._bus.observe(Occurrence(name="notice", subscriber=key, count=count, reason=reason))

    async def stop(self) -> None:
        """Let what is in hand finish within the grace; the rest stays pending for the next start.

        Events may be taken further on: they are made durable, and stay pending. Cancelling cancels what is in hand.
        """
        in_hand = [queue.stop() for queue in self._queues.values()]
        self._backlog.stop()
        await wait_or_cancel(self._reactor, in_hand, self._limits.grace)
        self._backlog.cancel()

    # -- in -----------------------------------------------------------------------

    def take(self, event: Event, digest: bytes, done: Callable[[DeliveryResult | Failure], object]) -> None:
        """Make a verified event durable, and hand it to its subscribers; a ping has none.

        ``digest`` identifies its body. ``done`` is called with a DeliveryResult, or with a Failure of JournalError
        if the event cannot be made durable now.
        """
        subscribers = () if self._is_ping(event) else self._bus.wanted_by(event)
        # Only the journal can tell a replay; and what comes after the stop has begun is for the next process.
        if subscribers and not self._limits.refuse_replays and not self._backlog.stopping:
            self._bus.notify(stackit_expect, event)
        delivery = NewDelivery(
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
            signer=event.signer,
            via=event.via,
        )
        self._journal.append(delivery, partial(self._appended, event, bool(subscribers), done))

    def _appended(
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
            self._observe("replayed", event, reason=appended.replay_of)
        elif appended.reused:
            reason = "the delivery id came before, with another body: this is taken as a new delivery"
            self._observe("notice", event, reason=reason, event_id=appended.id)
        result = DeliveryResult(
            id=appended.id,
            duplicate=appended.status == "duplicate",
            handled=handled,
            refused=self._limits.refuse_replays and appended.replay_of is not None,
        )
        try:
            self._offer(appended, event)
        finally:
            done(result)  # the event is durable, even if it cannot be handed on

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
        self._offer(appended, self._located(change))

    def _restored(self, stored: StoredEvent) -> Event | RefsChanged | None:
        event = self._restore(stored)
        return self._located(event) if isinstance(event, RefsChanged) else event

    def _located(self, change: RefsChanged) -> RefsChanged:
        """Return the change with the path of its mirror, which the journal does not keep: it may move."""
        mirror = self._bus.first(stackit_mirror, change.repo)
        return change if mirror is None else msgspec.structs.replace(change, mirror=mirror.path)

    def _offer(self, appended: AppendResult, event: Event | RefsChanged) -> None:
        if appended.status == "again":
            self._wake_for(appended.handlings)
            return
        for due in appended.handlings:
            self._backlog.pending[due.subscriber] += 1
            queue = self._queues.get(due.subscriber)
            if queue is not None:
                # Each handler has an event of its own, now with its id: none sees what another did to the payload.
                queue.offer(due, msgspec.structs.replace(event, id=appended.id))

    # -- again --------------------------------------------------------------------

    async def replay(self, event_id: EventId, subscribers: Sequence[str] | None) -> int:
        """Handle an event again, for these subscribers (keys), or for all that had it (None).

        Returns the number of subscribers. Raises LookupError for an unknown id, ValueError if the body is no longer
        kept.
        """
        due = await self._journal.replay(event_id, subscribers, now=self._now())
        self._wake_for(due)
        return len(due)

    async def replay_dead(self, subscriber: str) -> int:
        """Handle every dead letter of a subscriber (key) again; return their number."""
        due = await self._journal.replay_dead(subscriber, now=self._now())
        self._wake_for(due)
        return len(due)

    def resume(self, subscriber: str) -> None:
        """Have the queue of a subscriber (key) that was paused begin events again: what waits in the journal is due."""
        self._queues[subscriber].resume()
        self._backlog.wake_soon({subscriber})

    def look_again(self) -> None:
        """Hand on what is pending in the journal and not in hand.

        A commit that failed may be on disk all the same.
        """
        self._backlog.wake_soon(self._queues)

    def _wake_for(self, due: Sequence[DueHandling]) -> None:
        self._backlog.wake_soon({each.subscriber for each in due})

    # -- state --------------------------------------------------------------------

    def pending(self) -> Mapping[str, int]:
        """Return how many events each subscriber still has to handle, by its name for people."""
        known = Counter({self._bus.display(key): 0 for key in self._queues})
        for key, count in self._backlog.pending.items():
            known[self._bus.display(key)] += count
        return known

    def in_hand(self) -> Mapping[str, int]:
        """Return how many events each subscriber has in hand, by its name for people; those with none are left out."""
        return {self._bus.display(key): count for key, queue in self._queues.items() if (count := queue.in_hand())}

    def queues(self) -> Mapping[str, SubscriberQueue]:
        """Return the queue of each subscriber, by its key."""
        return self._queues

    def timeout(self, subscriber: Subscriber) -> float:
        """Return the seconds that a handler has for an event; 0 for no limit."""
        timeout = subscriber.options.timeout
        return self._limits.timeout if timeout is None else timeout

    def _concurrency(self, subscriber: Subscriber) -> int:
        return subscriber.options.concurrency or self._limits.concurrency

    def has_due(self, queue: SubscriberQueue) -> bool:
        """Return whether an event should have its turn now: one in the queue, or one that no timer will have read."""
        is_idle = queue.is_empty() and not queue.is_paused
        return queue.has_due() or (is_idle and self._backlog.is_forgotten(queue.subscriber.key))

    def _observe(
        self, name: Literal["replayed", "notice"], event: Event, *, reason: str, event_id: str | None = None
    ) -> None:
        self._bus.observe(
            Occurrence(
                name=name, delivery=event.delivery, repo=event.repo, event=event.name, id=event_id, reason=reason
            )
        )
