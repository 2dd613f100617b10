"""Events that wait in the journal: read into the queues when they are due, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import JournalError
from stackit.api.reactor import Timers, sleep
from stackit.api.tracebacks import describe_with_place
from stackit.dispatch.backoff import LONGEST_DELAY
from stackit.dispatch.queues import SubscriberQueue
from stackit.journal import DueHandling, JournalProtocol

_log = Logger(namespace="stackit")

JOURNAL_RETRY = 1.0
"""Seconds between tries to reach the journal while it is in trouble."""
CLOCK_STEP = 1.0
"""Seconds by which the wall clock may drift before the retries in the journal, which go by it, are moved."""

Answer = TypeVar("Answer")


class Backlog:
    """The journal, as the queues read from it.

    Each queue is woken when something is due for it: at the start, when the next retry is due, and after a replay.
    ``pending`` counts the handlings that are not done or dead, by subscriber key. ``stopping`` is true once ``stop``
    was called: from then on an outcome that cannot be written down is left to the next start.
    """

    def __init__(
        self,
        *,
        reactor: Timers,
        now: Callable[[], float],
        journal: JournalProtocol,
        queues: Mapping[str, SubscriberQueue],
    ) -> None:
        """``now`` is the wall clock, ``queues`` are the queues by subscriber key (they may be added later)."""
        self.pending: Counter[str] = Counter()
        self.stopping = False
        self._reactor = reactor
        self._now = now
        self._journal = journal
        self._queues = queues
        self._clock_offset = now() - reactor.seconds()  # changes when the wall clock is set
        self._timers: dict[str, DelayedCall] = {}  # when to wake a queue, by subscriber key
        self._tasks: set[Deferred[Any]] = set()
        self._pauses: set[Deferred[None]] = set()

    async def recover(self) -> dict[str, int]:
        """Wake every queue for what the last process left; return how many events were left, by subscriber key.

        Retries that are planned further ahead than the longest delay are due now.
        """
        await self._count()
        left = {key: count for key, count in self.pending.items() if count}
        await self._move_retries(0.0)
        return left

    async def wake(self, key: str) -> None:
        """Tell a queue in which groups something is due, and set the timer for what is due later."""
        now = await self.wall_time()
        self._queues[key].wake(await self.retry_journal(lambda: self._journal.due_groups(key, now=now)))
        await self._set_timer_after(key, now)

    def wake_soon(self, keys: Iterable[str]) -> None:
        """Count anew, and wake the queues of these subscribers, in the background."""
        self._run_in_background(self._count_and_wake(frozenset(keys)))

    def wake_later(self, key: str, delay: float) -> None:
        """Wake a queue in so many seconds, unless it is to be woken sooner."""
        timer = self._timers.get(key)
        is_set = timer is not None and timer.active()
        if self.stopping or (timer is not None and is_set and timer.getTime() <= self._reactor.seconds() + delay):
            return
        if timer is not None and is_set:
            timer.cancel()
        self._timers[key] = self._reactor.callLater(delay, lambda: self._run_in_background(self.wake(key)))

    def is_forgotten(self, key: str) -> bool:
        """Return whether a subscriber has something pending, and no timer that would have it read."""
        timer = self._timers.get(key)
        return self.pending[key] > 0 and not (timer is not None and timer.active())

    def read(self, key: str, group: str, limit: int) -> Deferred[list[DueHandling]]:
        """Return what is due for a subscriber in one group, oldest first."""
        return Deferred.fromCoroutine(self._read(key, group, limit))

    async def wall_time(self) -> float:
        """Return the wall clock. If it was set, the retries in the journal are moved first, by as much."""
        offset = self._now() - self._reactor.seconds()
        step = offset - self._clock_offset
        if abs(step) > CLOCK_STEP:
            self._clock_offset = offset
            await self._move_retries(step)
            self.wake_soon(self._queues)  # those that asked the journal meanwhile used the old time
        return self._now()

    async def retry_journal(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Return the journal's answer; ask again while it is in trouble.

        Raises JournalError when stackit stops.
        """
        while True:
            try:
                return await ask()
            except JournalError:
                if self.stopping:
                    raise
                await self.pause(JOURNAL_RETRY)

    async def pause(self, seconds: float) -> None:
        """Wait so many seconds before the journal is asked again; no longer than to the stop."""
        pause = sleep(self._reactor, seconds)
        self._pauses.add(pause)
        try:
            await pause
        except CancelledError:
            if not self.stopping:
                raise
        finally:
            self._pauses.discard(pause)

    def track(self, work: Coroutine[Deferred[Any], Any, None]) -> Deferred[None]:
        """Run a coroutine that ``cancel`` ends; the Deferred does not fail for being cut short by the stop."""
        running = Deferred.fromCoroutine(work)
        self._tasks.add(running)

        def ended(result: Failure | None) -> Failure | None:
            self._tasks.discard(running)
            if isinstance(result, Failure) and self.stopping and result.check(CancelledError, JournalError):
                return None
            return result

        return running.addBoth(ended)

    def stop(self) -> None:
        """Wake no queue any more, and ask the journal only once more: at once, where that was to be done later."""
        self.stopping = True
        for pause in tuple(self._pauses):
            pause.cancel()
        for timer in self._timers.values():
            if timer.active():
                timer.cancel()

    def cancel(self) -> None:
        """Cancel what still runs in the background."""
        for each in list(self._tasks):
            each.cancel()

    # -- inside -------------------------------------------------------------------

    async def _count(self) -> None:
        self.pending = Counter(await self.retry_journal(self._journal.pending))

    async def _count_and_wake(self, keys: frozenset[str]) -> None:
        await self._count()
        for key in self._queues.keys() & keys:
            await self.wake(key)

    async def _read(self, key: str, group: str, limit: int) -> list[DueHandling]:
        now = await self.wall_time()
        due = await self.retry_journal(lambda: self._journal.due(key, now, group=group, limit=limit))
        if len(due) < limit:
            await self._set_timer_after(key, now)
        return due

    async def _set_timer_after(self, key: str, now: float) -> None:
        next_at = await self.retry_journal(lambda: self._journal.next_due(key, after=now))
        if next_at is not None:
            self.wake_later(key, max(0.0, next_at - now))

    async def _move_retries(self, step: float) -> None:
        await self.retry_journal(lambda: self._journal.move_retries(step, now=self._now(), longest=LONGEST_DELAY))

    def _run_in_background(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run a coroutine without waiting for it. If it fails, what is due stays in the journal until the next wake."""
        self.track(work).addErrback(_log_failed_read)


def _log_failed_read(failure: Failure) -> None:
    fault = failure.value
    _log.error("what is due cannot be read: {problem}", problem=describe_with_place(fault))
