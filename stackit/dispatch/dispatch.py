"""From an event that comes in to its subscribers: durable first, then handed on; replay, recovery, and the stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Literal

import msgspec
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
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
from stackit.dispatch.blocking import CurrentStep
from stackit.dispatch.crash_counts import CrashCounts
from stackit.dispatch.handling import Handler, Restore
from stackit.dispatch.holdups import HoldOfAll, HoldUps
from stackit.dispatch.queues import SubscriberQueue
from stackit.dispatch.step_file import StepFile
from stackit.dispatch.threads import Threads
from stackit.journal import (
    AppendResult,
    DueHandling,
    EventId,
    JournalProtocol,
    NewDelivery,
    Shard,
    Space,
    StoredEvent,
    WorkListener,
)

_log = Logger(namespace="stackit")


class HandlerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults of each handler, and the limits of all of them together.

    ``timeout`` is in seconds (0 for none), ``concurrency`` in events, ``grace`` in seconds.
    With ``refuse_replays``, a body that comes back under a new delivery id is handed to no subscriber.
    """

    timeout: float
    concurrency: int
    grace: float
    refuse_replays: bool = False


class Dispatch(WorkListener):
    """Make each event durable, and hand it to each of its subscribers.

    The parts: a ``SubscriberQueue`` for each subscriber, the ``Backlog`` that reads from the journal into the queues,
    and a ``Handling`` for each event in a handler.
    """

    __slots__ = (
        "_backlog",
        "_backoff",
        "_bus",
        "_counting",
        "_crashes",
        "_handlers",
        "_hold_ups",
        "_is_ping",
        "_journal",
        "_limits",
        "_missing",
        "_now",
        "_queues",
        "_reactor",
        "_restore",
        "_step",
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
        steps: StepFile | None = None,
    ) -> None:
        """``now`` is the wall clock, in which the journal counts: in a fleet, that of all nodes.

        ``restore`` makes an event of a stored one; ``is_ping`` tells an event that no handler is to have.
        ``steps`` tells the next process in what this one ended.
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
        self._missing: set[str] = set()
        steps = StepFile(None, _ignore) if steps is None else steps
        self._step = CurrentStep(steps)
        self._crashes = CrashCounts(steps, journal, bus, now=now)
        self._counting = False
        self._hold_ups = HoldUps(reactor, self._tell, lambda: bool(journal.problems()))
        self._backlog = Backlog(reactor=reactor, now=now, journal=journal, queues=self._queues, hold_ups=self._hold_ups)

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
                is_early=self._is_early,
                timeout=self.timeout(subscriber),
                threads=Threads(self._reactor, concurrency) if subscriber.options.thread else None,
                step=self._step,
            )
            self._queues[subscriber.key] = SubscriberQueue(
                subscriber,
                concurrency=concurrency,
                handle=handler.handle,
                read=self._backlog.read,
                owns=self._journal.owns,
            )
        if self._crashes.has_suspects():
            self.hold("uncounted")
        self._journal.subscribe(self._spaces())
        self._journal.listen(self)

    def _spaces(self) -> dict[str, Space]:
        """Return the space of each subscriber: what needs a mirror is handled where that is."""
        of_refs = {each.key for each in self._bus.subscribers(stackit_refs_changed)}
        return {
            each.key: "mirrors" if each.key in of_refs or each.options.needs_mirror else "handlers"
            for each in self._bus.subscribers()
        }

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
        try:
            await self._backlog.retry_journal(self._crashes.settle, "uncounted")
        except CancelledError:
            raise
        except Exception:  # noqa: BLE001 - whatever is wrong with the counts, it must not hold up every event
            _log.failure("it is not counted in which handler the last process ended")
        self.release("uncounted")
        left = await self._backlog.recover()
        for key in self._queues:
            if key in left:
                self._bus.observe(Occurrence(name="recovered", subscriber=self._bus.display(key), count=left[key]))
            await self._backlog.wake(key)
        self._tell_of_missing(left)

    def _tell_of_missing(self, left: Mapping[str, int]) -> None:
        """Tell, once, of each subscriber whose events wait here and which is not loaded."""
        for key, count in left.items():
            if count > 0 and key not in self._queues and key not in self._missing:
                self._missing.add(key)
                reason = f"{count} events wait for {key}, which is not loaded"
                self._bus.observe(Occurrence(name="notice", subscriber=key, count=count, reason=reason))

    async def stop(self) -> None:
        """Let what is in hand finish within the grace; the rest stays pending for the next start.

        Events may be taken further on: they are made durable, and stay pending. Cancelling cancels what is in hand.
        """
        in_hand = [queue.stop() for queue in self._queues.values()]
        self._hold_ups.stop()
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

    def _is_early(self, event: Event | RefsChanged) -> bool:
        """Return True for moved refs that the mirror may not have yet, as it comes from another node just now."""
        mirror = self._bus.first(stackit_mirror, event.repo) if isinstance(event, RefsChanged) else None
        return mirror is not None and mirror.arriving

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

    # -- beside other processes ---------------------------------------------------

    def recorded(self, works: Sequence[tuple[DueHandling, StoredEvent]]) -> None:
        """Take handlings that another process recorded."""
        restored: dict[EventId, Event | RefsChanged | None] = {}
        for due, stored in works:
            queue = self._queues.get(due.subscriber)
            if queue is not None and not queue.may_have(due):
                continue  # it was read from the journal, and counted there, or is another process's by now
            self._backlog.pending[due.subscriber] += 1
            if queue is None:
                continue
            if due.event_id not in restored:
                restored[due.event_id] = self._restored_if_possible(stored)
            event = restored[due.event_id]
            queue.offer(due, None if event is None else msgspec.structs.replace(event, id=due.event_id))

    def _restored_if_possible(self, stored: StoredEvent) -> Event | RefsChanged | None:
        """Return the event, or None if each handling has to load it: it cannot be restored, or is early."""
        try:
            event = self._restored(stored)
            return None if event is None or self._is_early(event) else event
        except Exception:  # noqa: BLE001 - each handling loads it itself then, and has this for its outcome
            return None

    def gained(self) -> None:
        """Hand on what is pending in the journal and not in hand: more of it is this process's."""
        self._backlog.run_in_background(self._backlog.take_over())

    def lost(self, shards: Collection[Shard]) -> None:
        """Cancel what is in hand of these shards, and drop what waits."""
        shards = frozenset(shards)
        in_hand = sum(queue.lose(shards) for queue in self._queues.values())
        if in_hand:
            reason = f"{in_hand} in hand cancelled: the work is another node's now, which begins it anew"
            self._bus.observe(Occurrence(name="notice", count=in_hand, reason=reason))
        self.count_pending()

    async def drain(self, shards: Collection[Shard]) -> None:
        """Begin nothing of these shards any more, which the journal no longer counts as own, and wait for the rest."""
        shards = frozenset(shards)
        # One after the other: a DeferredList that is cancelled ends as one whose Deferreds have all ended.
        for draining in [queue.drain(shards) for queue in self._queues.values()]:
            await draining

    def trust_clock(self) -> None:
        """Take the clock as it is. To be called before this process gains work of others, who planned by the same."""
        self._backlog.trust_clock()

    def count_pending(self) -> None:
        """Count anew, in the background, what is pending here: other processes record, and take over, as they do."""
        if not self._counting:
            self._counting = True
            self._backlog.run_in_background(self._count_pending())

    async def _count_pending(self) -> None:
        try:
            await self._backlog.count()
        finally:
            self._counting = False
        self._tell_of_missing(self._backlog.pending)

    # -- again --------------------------------------------------------------------

    async def replay(self, event_id: EventId, subscribers: Sequence[str] | None) -> int:
        """Handle an event again, for these subscribers (keys), or for all that had it (None).

        Returns the number of subscribers. Raises LookupError for an unknown id, ValueError if the body is no longer
        kept.
        """
        due = await self._journal.replay(event_id, subscribers, now=self._now())
        self._wake_for(due)
        # Some of it may be another process's to do, which was told of it.
        if subscribers is not None:
            return len(set(subscribers))
        receipt = await self._journal.receipt(event_id)
        return len(due) if receipt is None else len(receipt.handlings)

    async def replay_dead(self, subscriber: str) -> int:
        """Handle every dead letter of a subscriber (key) again; return their number."""
        dead = (await self._journal.dead()).get(subscriber, 0)
        due = await self._journal.replay_dead(subscriber, now=self._now())
        self._wake_for(due)
        return max(dead, len(due))  # some of it may be another process's to do

    def resume(self, subscriber: str) -> None:
        """Have the queue of a subscriber (key) that was paused begin events again: what waits in the journal is due."""
        self._queues[subscriber].release("paused")
        self._backlog.wake_soon({subscriber})

    def hold(self, reason: HoldOfAll, cause: str = "") -> None:
        """Begin no event of any queue until ``release`` of this reason; people are told where that takes long."""
        for queue in self._queues.values():
            queue.hold(reason)
        self._hold_ups.begin(reason, cause)

    def release(self, reason: HoldOfAll) -> None:
        """Begin events again where no other reason is left; those that came meanwhile wait in the journal."""
        for queue in self._queues.values():
            queue.release(reason)
        self._hold_ups.end(reason)

    def doubt_pauses(self, cause: str | None) -> None:
        """Take note of why it cannot be read which handlers other nodes paused; None once that is read."""
        if cause is None:
            self._hold_ups.end("unheard")
        else:
            self._hold_ups.begin("unheard", cause)

    def problems(self) -> list[str]:
        """Return what has held handlers up for longer than a moment, one line each."""
        return self._hold_ups.problems()

    def look_again(self) -> None:
        """Hand on what is pending in the journal and not in hand.

        A commit that failed may be on disk all the same.
        """
        self._backlog.wake_soon(self._queues)

    def _wake_for(self, due: Sequence[DueHandling]) -> None:
        self._backlog.wake_soon({each.subscriber for each in due})

    # -- state --------------------------------------------------------------------

    def at_work(self) -> tuple[str, str, EventId] | None:
        """Return the handler that the reactor's thread is in, and the id of its event: for another thread.

        That is the subscriber's key, and its name for people; None between handlers.
        """
        step = self._step.now
        return None if step is None else (step[0].key, step[0].name, step[1].id)

    def pending(self) -> Mapping[str, int]:
        """Return how many events each subscriber still has to handle here, by its name for people."""
        known = Counter({self._bus.display(key): 0 for key in self._queues})
        for key, count in self._backlog.pending.items():
            known[self._bus.display(key)] += max(0, count)  # what another process recorded may be told of late
        return known

    async def pending_everywhere(self) -> Mapping[str, int]:
        """Return the same, but of all processes together. Raises JournalError."""
        known = Counter(self.pending())
        for key, count in (await self._journal.pending_elsewhere()).items():
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
        is_idle = queue.is_empty() and not queue.is_held
        return queue.has_due() or (is_idle and self._backlog.is_forgotten(queue.subscriber.key))

    def _tell(self, reason: str) -> None:
        self._bus.observe(Occurrence(name="notice", reason=reason))

    def _observe(
        self, name: Literal["replayed", "notice"], event: Event, *, reason: str, event_id: str | None = None
    ) -> None:
        self._bus.observe(
            Occurrence(
                name=name, delivery=event.delivery, repo=event.repo, event=event.name, id=event_id, reason=reason
            )
        )


def _ignore(_text: str) -> None:
    """Drop what is told."""
