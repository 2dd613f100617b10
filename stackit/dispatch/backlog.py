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
from stackit.dispatch.holdups import HoldUps, Reason
from stackit.dispatch.queues import SubscriberQueue
from stackit.journal import DueHandling, JournalProtocol

_log = Logger(namespace="stackit")

JOURNAL_RETRY = 1.0
"""Seconds between tries to reach the journal while it is in trouble."""
CLOCK_STEP = 1.0
"""Seconds by which the wall clock may drift before the retries in the journal, which go by it, are moved."""

_COUNTS = 3
"""Most counts in a row of what is pending."""

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
        hold_ups: HoldUps,
    ) -> None:
        """``now`` is the wall clock, in a fleet that of all; ``queues`` are those by subscriber key (more may come).

        ``hold_ups`` are told of a journal that does not answer.
        """
        self.pending: Counter[str] = Counter()
        self.stopping = False
        self._reactor = reactor
        self._now = now
        self._journal = journal
        self._queues = queues
        self._hold_ups = hold_ups
        self._in_trouble: Counter[Reason] = Counter()  # how many wait for the journal to answer again
        self._clock_offset = now() - reactor.seconds()  # changes when the wall clock is set
        self._timers: dict[str, DelayedCall] = {}  # those that will wake a queue, by subscriber key
        self._to_wake: set[str] = set()
        self._waking = False
        self._tasks: set[Deferred[Any]] = set()
        self._pauses: set[Deferred[None]] = set()

    async def recover(self) -> dict[str, int]:
        """Wake every queue for what the last process left; return how many events were left, by subscriber key.

        Retries that are planned further ahead than the longest delay are due now.
        """
        left = {key: count for key, count in (await self.count()).items() if count}
        await self._move_retries(0.0)
        return left

    async def take_over(self) -> None:
        """Wake every queue for what another process left, which may have planned retries by a clock that was wrong."""
        await self._move_retries(0.0)
        self.wake_soon(self._queues)

    async def count(self) -> Mapping[str, int]:
        """Count anew what is pending, and once more where that changed meanwhile: the answer may be of before or after.

        Returns the first count. While it changes all the time, the last may be a few off, until the next one.
        """
        first: Mapping[str, int] | None = None
        for _ in range(_COUNTS):
            before = self._changes()
            counted = await self.retry_journal(self._journal.pending)
            is_settled = self._changes() == before
            self.pending = Counter(counted)
            first = counted if first is None else first
            if is_settled:
                break
        return first or {}

    def _changes(self) -> tuple[Counter[str], int]:
        """Return what is different once a handling was recorded, or had its outcome."""
        return self.pending.copy(), sum(queue.moves for queue in self._queues.values())

    async def wake(self, key: str) -> None:
        """Tell a queue in which groups something is due, and set the timer for what is due later."""
        now = await self.wall_time()
        self._queues[key].wake(await self.retry_journal(lambda: self._journal.due_groups(key, now=now)))
        await self._set_timer_after(key, now)

    def wake_soon(self, keys: Iterable[str]) -> None:
        """Count anew, and wake the queues of these subscribers, in the background."""
        self._to_wake.update(keys)
        if not self._waking:
            self._waking = True
            self.run_in_background(self._count_and_wake())

    def wake_later(self, key: str, delay: float) -> None:
        """Wake a queue in so many seconds, unless it is to be woken sooner."""
        timer = self._timers.get(key)
        if self.stopping or (timer is not None and timer.getTime() <= self._reactor.seconds() + delay):
            return
        if timer is not None:
            timer.cancel()
        self._timers[key] = self._reactor.callLater(delay, self._wake_now, key)

    def is_forgotten(self, key: str) -> bool:
        """Return whether a subscriber has something pending, and no timer that would have it read."""
        return self.pending[key] > 0 and key not in self._timers

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

    def trust_clock(self) -> None:
        """Take the wall clock as it is: however it was set before now, no retry is moved by that."""
        self._clock_offset = self._now() - self._reactor.seconds()

    async def retry_journal(self, ask: Callable[[], Awaitable[Answer]], reason: Reason = "unread") -> Answer:
        """Return the journal's answer; ask again while it is in trouble, which holds handlers up for ``reason``.

        Raises JournalError when stackit stops.
        """
        is_in_trouble = False
        try:
            while True:
                try:
                    return await ask()
                except JournalError as problem:
                    if self.stopping:
                        raise
                    self._in_trouble[reason] += not is_in_trouble
                    is_in_trouble = True
                    self._hold_ups.begin(reason, str(problem))
                    await self.pause(JOURNAL_RETRY)
        finally:
            self._in_trouble[reason] -= is_in_trouble
            if is_in_trouble and not self._in_trouble[reason]:
                self._hold_ups.end(reason)

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

    def run_in_background(self, work: Coroutine[Deferred[Any], Any, None]) -> None:
        """Run a coroutine without waiting for it. If it fails, what is due stays in the journal until the next wake."""
        self.track(work).addErrback(_log_failed_read)

    def stop(self) -> None:
        """Wake no queue any more, and ask the journal only once more: at once, where that was to be done later."""
        self.stopping = True
        for pause in tuple(self._pauses):
            pause.cancel()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def cancel(self) -> None:
        """Cancel what still runs in the background."""
        for each in list(self._tasks):
            each.cancel()

    # -- inside -------------------------------------------------------------------

    def _wake_now(self, key: str) -> None:
        del self._timers[key]
        self.run_in_background(self.wake(key))

    async def _count_and_wake(self) -> None:
        """Do it once more for those that were asked for meanwhile: what was read for them may be older than that."""
        try:
            while self._to_wake:
                keys, self._to_wake = self._to_wake, set()
                await self.count()
                for key in self._queues.keys() & keys:
                    await self.wake(key)
        finally:
            self._waking = False

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


def _log_failed_read(failure: Failure) -> None:
    fault = failure.value
    _log.error("what is due cannot be read: {problem}", problem=describe_with_place(fault))
