"""One event in one handler: the call, bounded in time, and its outcome, written down."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any, Literal

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from stackit.api.errors import JournalError, Permanent
from stackit.api.events import Event, RefsChanged
from stackit.api.faults import Fault, FaultDescriber
from stackit.api.handling import CURRENT
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.bus.bus import Bus
from stackit.bus.subscribers import Subscriber
from stackit.bus.timeouts import with_timeout
from stackit.dispatch.backlog import JOURNAL_RETRY, Backlog
from stackit.dispatch.backoff import Backoff
from stackit.dispatch.blocking import BOUND, EVERY, CurrentStep, TimedCoroutine
from stackit.dispatch.coroutine_runner import CoroutineRunner
from stackit.dispatch.entries import Group, QueueEntry
from stackit.dispatch.queues import SubscriberQueue
from stackit.dispatch.threads import Threads
from stackit.journal import JournalProtocol, StoredEvent

Restore = Callable[[StoredEvent], Event | RefsChanged | None]
"""Make an event of what the journal has of it; None if its body is no longer kept."""

_ARRIVES_WITHIN = 60.0
"""Seconds for which the events of a repository wait for a mirror that comes from another node; they begin then, too."""
_ARRIVAL_PAUSE = 1.0
"""Seconds between two looks whether it has come."""


class Handler:
    """A subscriber's handler: how it is called, and what its handlings need to record their outcomes.

    ``name`` is the subscriber's name for people, ``timeout`` in seconds (0 for none); with ``threads``, each call has
    a thread.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        bus: Bus,
        journal: JournalProtocol,
        backlog: Backlog,
        backoff: Backoff,
        restore: Restore,
        is_early: Callable[[Event | RefsChanged], bool],
        timeout: float,
        threads: Threads | None,
        step: CurrentStep,
    ) -> None:
        """``now`` is the wall clock; ``is_early`` tells an event that has to wait for its mirror."""
        self.step = step
        self.subscriber = subscriber
        self.key = subscriber.key
        self.name = bus.display(subscriber.key)
        self.reactor = reactor
        self.now = now
        self.bus = bus
        self.journal = journal
        self.backlog = backlog
        self.backoff = backoff
        self.restore = restore
        self.is_early = is_early
        self.timeout = timeout
        self.threads = threads
        self.faults = FaultDescriber(bus.redact, subscriber.implementation.function)
        self._blocked_at: float | None = None

    def change(self, *, timeout: float, backoff: Backoff, concurrency: int) -> None:
        """Take another timeout, other delays and another number of threads, for the calls from now on."""
        self.timeout = timeout
        self.backoff = backoff
        if self.threads is not None:
            self.threads.most = concurrency

    def handle(self, queue: SubscriberQueue, entry: QueueEntry) -> None:
        """Begin to handle an entry of the subscriber's queue."""
        Handling(self, queue, entry).start()

    def call(self, event: Event | RefsChanged, began: float) -> Deferred[Exception | None] | None:
        """Call the handler; ``began`` is the time now, by the reactor's clock.

        Returns None if it is through at once, else a Deferred of None or of the exception it failed with, as a value:
        raised once more, an exception could do to stackit what it did to the handler.
        """
        # Each call has a context (contextvars) of its own, which tells the log whose call it is.
        context = copy_context()
        context.run(CURRENT.set, (self.name, event))
        if self.threads is None:
            before = self.step.enter((self, event))
            running = context.run(self.subscriber.call, event, self._watched)
            self.step.leave(before)
            if running is None:
                return None  # the caller takes the time of those
            self.check_time(event, self.reactor.seconds() - began)
        else:
            running = self.threads.call(lambda value: context.run(self._run_in_thread, value), event)
        return with_timeout(self.reactor, running, self.timeout).addCallbacks(_no_fault, _fault)

    def _run_in_thread(self, event: Any) -> object:
        with self.step.file.in_thread(event.id, self.key):
            return self.subscriber.run(event)

    def _watched(self, event: Any, coroutine: Coroutine[Any, Any, Any]) -> TimedCoroutine:
        blocked = partial(self.check_time, event)
        return TimedCoroutine(coroutine, self.reactor.seconds, blocked, self.step, (self, event))

    async def await_mirror(self, queue: SubscriberQueue, group: Group, event: RefsChanged, until: float) -> None:
        """Release a group that is held when the mirror of its event has come, or at a time of the reactor's clock."""
        try:
            while True:
                await self.backlog.pause(_ARRIVAL_PAUSE)
                if self.backlog.stopping or self.reactor.seconds() >= until or not self.is_early(event):
                    break
        finally:
            queue.release_group(group)

    def check_time(self, event: Event | RefsChanged, seconds: float) -> None:
        """Name the handler, once in a while, if it kept the reactor from everything else for so many seconds."""
        now = self.reactor.seconds()
        if seconds <= BOUND or (self._blocked_at is not None and now - self._blocked_at < EVERY):
            return
        self._blocked_at = now
        self.bus.observe(
            Occurrence(
                name="blocked",
                subscriber=self.name,
                event=event.name,
                repo=event.repo,
                delivery=event.delivery,
                id=event.id,
                seconds=seconds,
            )
        )


class Handling:
    """One event on its way through a handler to its outcome in the journal: done, tried again later, or dead.

    ``QueueEntry.state`` says how far it is; it ends, in every case, by ``SubscriberQueue.ended``.
    A handler that is through when it returns needs no Deferred and no coroutine on this way.
    """

    __slots__ = ("_began", "_entry", "_event", "_handler", "_queue", "_seconds")

    def __init__(self, handler: Handler, queue: SubscriberQueue, entry: QueueEntry) -> None:
        self._handler = handler
        self._queue = queue
        self._entry = entry
        self._event = entry.event
        self._began = handler.reactor.seconds()
        self._seconds = 0.0

    def start(self) -> None:
        """Call the handler, and see its outcome written down."""
        handler, event = self._handler, self._event
        running = None if event is None else handler.call(event, self._began)
        if event is None or running is not None:
            self._run(self._wait(running))
            return
        self._returned()
        if self._seconds > BOUND:
            handler.check_time(event, self._seconds)
        handler.journal.finish(self._entry.due.id, self._recorded, at=handler.now())

    # -- the handler --------------------------------------------------------------

    async def _wait(self, running: Deferred[Exception | None] | None) -> None:
        """Wait for the handler, which is called first if the event has still to be read, and record the outcome."""
        fault: Exception | None = None
        try:
            if self._event is None:
                self._event = await self._load()
                if not self._queue.may_begin(self._entry):
                    return  # it is another process's, or is read again where this one keeps it
                if self._event is not None and self._waits_for_mirror(self._event):
                    return
                # If the body is no longer kept, there is nothing to handle.
                running = None if self._event is None else self._call(self._event)
            if running is not None:
                fault = await running
        except Exception as problem:  # noqa: BLE001 - a stored event that cannot be restored is the outcome of this handling alone
            fault = problem
        if self._entry.is_lost or (self._handler.backlog.stopping and isinstance(fault, CancelledError | JournalError)):
            return  # another process handles it, or, out of grace, this one after the next start
        if fault is not None:
            await self._fail(fault)
            return
        self._returned()
        await self._finish()

    def _call(self, event: Event | RefsChanged) -> Deferred[Exception | None] | None:
        """Call the handler with an event that was read again."""
        handler, began = self._handler, self._handler.reactor.seconds()
        running = handler.call(event, began)
        if running is None and handler.threads is None:
            handler.check_time(event, handler.reactor.seconds() - began)
        return running

    async def _load(self) -> Event | RefsChanged | None:
        handler = self._handler
        stored = await handler.backlog.retry_journal(lambda: handler.journal.load(self._entry.due.event_id))
        return None if stored is None else handler.restore(stored)

    def _waits_for_mirror(self, event: Event | RefsChanged) -> bool:
        """Put an event back whose mirror is still on its way here; return whether it has to wait.

        It takes no slot of the queue meanwhile, and all of its group wait together, so that they keep their order.
        """
        handler, group = self._handler, self._entry.group
        if not isinstance(event, RefsChanged) or not handler.is_early(event):
            group.early_since = None
            return False
        now = handler.reactor.seconds()
        if group.early_since is None:
            group.early_since = now
        until = group.early_since + _ARRIVES_WITHIN
        if now >= until:
            return False
        was_held = group.is_held
        if self._queue.put_back(self._entry) and not was_held:
            slight = msgspec.structs.replace(event, changes=())
            handler.backlog.run_in_background(handler.await_mirror(self._queue, group, slight, until))
        return True

    def _returned(self) -> None:
        """Let the next event of the group begin: it need not wait until this outcome is on disk."""
        self._seconds = self._handler.reactor.seconds() - self._began
        self._queue.handled(self._entry)

    # -- the outcome --------------------------------------------------------------

    def _recorded(self, failure: Failure | None) -> None:
        if self._entry.is_lost or (failure is not None and self._handler.backlog.stopping):
            self._queue.ended(self._entry)  # it is another's, or stays pending and is handled after the next start
        elif failure is None:
            self._done()
            self._queue.ended(self._entry)
        else:
            self._run(self._finish(JOURNAL_RETRY))

    async def _finish(self, delay: float = 0.0) -> None:
        """Record that it is done, after so many seconds."""
        handler = self._handler
        if delay:
            await handler.backlog.pause(delay)

        def finish() -> Deferred[None]:
            written: Deferred[None] = Deferred()
            handler.journal.finish(self._entry.due.id, written.callback, at=handler.now())
            return written

        await handler.backlog.retry_journal(finish)
        self._done()

    def _done(self) -> None:
        self._handler.backlog.pending[self._handler.key] -= 1
        if self._event is not None:
            self._report("handled")

    async def _fail(self, fault: Exception) -> None:
        """Record that it failed: to be tried again later, or dead."""
        handler, due = self._handler, self._entry.due
        self._seconds = handler.reactor.seconds() - self._began
        now = await handler.backlog.wall_time()
        delay = None if isinstance(fault, Permanent) else handler.backoff.delay(due.attempts + 1)
        described = handler.faults.describe(fault)
        next_at = None if delay is None else now + delay
        await handler.backlog.retry_journal(
            lambda: handler.journal.fail(
                due.id, at=now, error=described.error, next_at=next_at, traceback=described.traceback
            )
        )
        if delay is None:
            handler.backlog.pending[handler.key] -= 1
            self._report("dead", described)
        else:
            self._report("failed", described, retry_in=delay)
            handler.backlog.wake_later(handler.key, delay)

    def _report(
        self, name: Literal["handled", "failed", "dead"], fault: Fault | None = None, *, retry_in: float | None = None
    ) -> None:
        event, due = self._event, self._entry.due
        self._handler.bus.observe(
            Occurrence(
                name=name,
                subscriber=self._handler.name,
                event=getattr(event, "name", None),
                action=getattr(event, "action", None),
                repo=getattr(event, "repo", None),
                delivery=getattr(event, "delivery", None),
                id=due.event_id,
                attempts=due.attempts + 1,
                seconds=self._seconds,
                error=None if fault is None else fault.error,
                retry_in=retry_in,
                traceback=None if fault is None else fault.new_traceback,
            )
        )

    def _run(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run a coroutine to the end of this handling. The queue cancels it when it is stopped out of grace."""
        self._entry.task = task = CoroutineRunner(work, self._ended, self._ended)
        task.start()

    def _ended(self, failure: Failure | None) -> None:
        self._queue.ended(self._entry, failure)


def _no_fault(_result: object) -> None:
    """Drop what a handler returned."""


def _fault(failure: Failure) -> Any:
    return failure.value
