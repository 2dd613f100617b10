"""One subscriber's queue: in order, fair, bounded, and each event once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from random import Random
from typing import Any, get_args

import pytest
from journal_values import due_handling
from plugin_maker import bus_with, event
from twisted.internet.defer import Deferred, succeed
from twisted.logger import LogEvent
from twisted.python.failure import Failure

from stackit import on
from stackit.dispatch.coroutine_runner import CoroutineRunner
from stackit.dispatch.entries import QueueEntry
from stackit.dispatch.queues import Hold, QueueLimits, SubscriberQueue
from stackit.journal import DueHandling

LIMITS = QueueLimits()


class Harness:
    """A queue over a list that stands for the journal; handlings and reads end when the test says so."""

    def __init__(self, *, concurrency: int = 4, ordered: bool = True, by_hand: bool = True, woken: bool = True) -> None:
        @on("*", ordered=ordered)
        def handle(event: object) -> None: ...

        (subscriber,) = bus_with(mine=handle).subscribers()
        self.queue = SubscriberQueue(subscriber, concurrency=concurrency, handle=self._handle, read=self._read)
        self.by_hand = by_hand
        self.pending: dict[int, DueHandling] = {}
        self.groups: dict[str, list[int]] = {}
        self.entries: list[QueueEntry] = []
        self.started: list[int] = []
        self.kept: list[bool] = []
        self.active: dict[int, Deferred[None]] = {}
        self.reads: list[tuple[list[DueHandling], Deferred[list[DueHandling]]]] = []
        self.read_groups: list[str] = []
        self.count = 0
        self.fault_of_handle: BaseException | None = None
        self.fault_of_read: BaseException | None = None
        if woken:
            self.queue.wake([])

    def add(self, handling: DueHandling) -> None:
        self.pending[handling.id] = handling

    def offer(self, group: str, *, size: int = 10) -> int:
        self.count += 1
        handling = due_handling(self.count, group, size)
        self.add(handling)
        self.queue.offer(handling, event())
        return handling.id

    def end(self, handling: int) -> None:
        """The handling is done: the journal knows at once, the queue hears of it now."""
        del self.pending[handling]
        self.active.pop(handling).callback(None)

    def answer(self) -> None:
        """Give the oldest open read what the journal held when it was asked."""
        handlings, reading = self.reads.pop(0)
        reading.callback(handlings)

    def _handle(self, _queue: SubscriberQueue, entry: QueueEntry) -> None:
        if self.fault_of_handle is not None:
            raise self.fault_of_handle

        def ended(failure: Failure | None) -> None:
            self.queue.ended(entry, failure)

        entry.task = task = CoroutineRunner(self._run(entry), ended, ended)
        task.start()

    async def _run(self, entry: QueueEntry) -> None:
        handling = entry.due.id
        self.entries.append(entry)
        self.groups.setdefault(entry.due.group, []).append(handling)
        self.started.append(handling)
        self.kept.append(entry.event is not None)
        if self.by_hand:
            self.active[handling] = Deferred()
            await self.active[handling]
        else:
            del self.pending[handling]

    def _read(self, key: str, group: str, limit: int) -> Deferred[list[DueHandling]]:
        if self.fault_of_read is not None:
            raise self.fault_of_read
        assert key == "mine:handle"
        handlings = [handling for handling in self.pending.values() if handling.group == group][:limit]
        self.read_groups.append(group)
        if not self.by_hand:
            return succeed(handlings)
        self.reads.append((handlings, Deferred()))
        return self.reads[-1][1]

    def empty(self) -> bool:
        queue = self.queue
        left: list[Any] = [queue._groups, queue._ready, queue._to_read, queue._known, queue._active, self.active]
        return not any(left) and queue._waiting == 0 and queue._kept_bytes == 0


def test_events_of_one_group_are_handled_one_at_a_time_in_order() -> None:
    harness = Harness()
    first, second, third = (harness.offer("a") for _ in range(3))
    assert harness.started == [first]
    harness.end(first)
    assert harness.started == [first, second]
    harness.end(second)
    harness.end(third)
    assert harness.started == [first, second, third]
    assert harness.empty()


def test_groups_are_handled_side_by_side_up_to_the_concurrency() -> None:
    harness = Harness(concurrency=2)
    harness.offer("a")
    harness.offer("b")
    harness.offer("c")
    assert harness.started == [1, 2]
    harness.end(1)
    assert harness.started == [1, 2, 3]


def test_events_without_a_repository_wait_for_each_other_as_little_as_unordered_ones() -> None:
    for harness, group in ((Harness(), ""), (Harness(ordered=False), "a")):
        harness.offer(group)
        harness.offer(group)
        assert harness.started == [1, 2]
        harness.end(2)
        harness.end(1)
        assert harness.empty()


def test_a_busy_group_takes_turns_with_the_others() -> None:
    harness = Harness(concurrency=1)
    for _ in range(20):
        harness.offer("busy")
    quiet = harness.offer("quiet")
    harness.end(1)
    harness.end(harness.started[-1])
    assert quiet in harness.started[:3]


def test_a_group_that_outgrows_its_share_waits_in_the_journal_and_keeps_its_order() -> None:
    harness = Harness()
    total = 5 * LIMITS.share
    for _ in range(total):
        harness.offer("a")
    assert harness.queue._waiting == LIMITS.share
    while harness.active:
        harness.end(harness.started[-1])
        assert harness.queue._waiting <= 2 * LIMITS.share
        while harness.reads:
            harness.answer()
    assert harness.started == list(range(1, total + 1))
    assert harness.empty()


def test_what_arrives_while_older_events_wait_in_the_journal_waits_behind_them() -> None:
    harness = Harness()
    for _ in range(LIMITS.share + 2):
        harness.offer("a")
    for _ in range(LIMITS.share):
        harness.end(harness.started[-1])
    late = harness.offer("a")  # the read is under way, and was asked before
    while harness.active or harness.reads:
        while harness.reads:
            harness.answer()
        harness.end(harness.started[-1])
    assert harness.started == list(range(1, late + 1))
    assert harness.empty()


def test_what_ends_during_a_read_that_still_shows_it_is_not_handled_twice() -> None:
    harness = Harness()
    for _ in range(3):
        harness.offer("a")
    harness.queue.wake(["a"])
    harness.end(1)
    harness.end(2)
    harness.end(3)  # all of them pending in what the read saw
    harness.answer()
    assert harness.started == [1, 2, 3]
    assert harness.empty()


def test_what_is_in_hand_or_waits_is_not_taken_again_from_the_journal() -> None:
    harness = Harness()
    harness.offer("a")
    harness.offer("a")
    harness.queue.wake(["a"])
    harness.answer()
    harness.end(1)
    harness.end(2)
    assert harness.started == [1, 2]
    assert harness.empty()


def test_what_comes_in_place_of_what_ends_during_a_read_takes_no_more_room_than_there_was() -> None:
    harness = Harness(concurrency=1)
    harness.offer("a")
    more = [due_handling(number, "a", 10) for number in range(2, 50)]
    for each in more:
        harness.add(each)
    harness.queue.wake(["a"])
    harness.end(1)
    _, reading = harness.reads.pop(0)
    reading.callback(more[: LIMITS.share + 1])  # as many as were asked for, the one that has ended among them
    assert harness.queue._waiting + len(harness.active) == LIMITS.share
    while harness.active or harness.reads:
        for number in list(harness.active):
            harness.end(number)
        while harness.reads:
            harness.answer()
    assert harness.started == [1, *(each.id for each in more)]
    assert harness.empty()


def test_a_wake_during_a_read_causes_another_read() -> None:
    harness = Harness()
    harness.queue.wake(["a"])
    harness.add(due_handling(7, "a", 1))
    harness.queue.wake(["a"])
    harness.answer()
    assert harness.started == []
    harness.answer()
    assert harness.started == [7]
    harness.end(7)
    assert harness.empty()


def test_before_the_first_wake_older_events_in_the_journal_go_first() -> None:
    harness = Harness(woken=False)
    for number in range(3):
        harness.add(due_handling(100 + number, "a", 1))
    harness.offer("a")
    harness.queue.wake(["a"])
    while harness.reads or harness.active:
        while harness.reads:
            harness.answer()
        if harness.active:
            harness.end(harness.started[-1])
    assert harness.started == [100, 101, 102, 1]
    assert harness.empty()


def test_a_group_with_nothing_in_the_journal_after_all_is_forgotten() -> None:
    harness = Harness()
    harness.queue.wake(["a", "b"])
    harness.answer()
    harness.answer()
    assert harness.empty()


def test_stuck_groups_that_fill_the_window_do_not_starve_a_new_one() -> None:
    stuck = LIMITS.window // LIMITS.share + 8
    harness = Harness(concurrency=stuck + 1)
    for number in range(stuck):
        for _ in range(2 * LIMITS.share):
            harness.offer(f"stuck{number}")
    newcomer = harness.offer("new")
    for _ in range(4 * stuck):
        if harness.reads:
            harness.answer()
    assert newcomer in harness.started
    assert harness.queue._waiting <= LIMITS.window


def test_bodies_are_kept_up_to_a_number_of_bytes() -> None:
    harness = Harness(concurrency=1)
    for _ in range(4):
        harness.offer("", size=LIMITS.kept_bytes // 2)
    assert harness.queue._kept_bytes <= LIMITS.kept_bytes
    for number in range(1, 5):
        harness.end(number)
    assert harness.kept == [True, True, True, False]
    assert harness.empty()


def test_thousands_of_handlers_that_end_at_once_are_no_deep_recursion() -> None:
    harness = Harness(by_hand=False, woken=False)
    for number in range(1, 5001):
        harness.add(due_handling(number, "a", 1))
    harness.queue.wake(["a"])
    assert harness.started == list(range(1, 5001))
    harness.count = 5000
    for _ in range(5000):
        harness.offer("b")
    assert harness.started == list(range(1, 10001))
    assert harness.empty()


def test_after_a_stop_nothing_starts_and_it_ends_with_what_runs() -> None:
    harness = Harness(concurrency=1)
    harness.offer("a")
    harness.offer("b")
    harness.queue.wake(["a"])
    stopped = harness.queue.stop()
    harness.offer("c")
    assert not stopped.called
    harness.end(1)
    assert stopped.called
    assert harness.started == [1]


def test_an_idle_queue_stops_at_once() -> None:
    harness = Harness()
    harness.offer("a")
    harness.end(1)
    assert harness.queue.stop().called


def test_a_stop_that_is_cancelled_cancels_what_is_in_hand() -> None:
    harness = Harness()
    harness.offer("a")
    harness.offer("b")
    stopped = harness.queue.stop()
    stopped.cancel()
    assert stopped.result is None
    assert not harness.queue._active


def test_a_handling_that_fails_after_all_is_logged_and_holds_up_no_other(logged_failures: list[LogEvent]) -> None:
    harness = Harness()
    harness.offer("a")
    second = harness.offer("a")
    del harness.pending[1]
    harness.active.pop(1).errback(ZeroDivisionError())
    found = [(each["subscriber"], each["log_failure"].type) for each in logged_failures]
    assert found == [("mine:handle", ZeroDivisionError)]
    logged_failures.clear()
    harness.end(second)
    assert harness.empty()


@pytest.mark.parametrize("fault", [RuntimeError("can't start new thread"), KeyboardInterrupt(), GeneratorExit()])
def test_a_handling_that_cannot_be_begun_holds_up_no_other(
    logged_failures: list[LogEvent], fault: BaseException
) -> None:
    harness = Harness(concurrency=1)
    harness.fault_of_handle = fault
    harness.offer("a")  # begun at once
    harness.count = 2
    harness.add(due_handling(2, "b", 10))
    harness.queue.wake(["b"])
    harness.answer()  # begun by the loop
    assert [each["log_failure"].value for each in logged_failures] == [fault] * 2
    logged_failures.clear()
    assert harness.queue.moves == 4
    harness.fault_of_handle = None
    third, fourth = harness.offer("a"), harness.offer("b")
    assert harness.started == [third]
    harness.end(third)
    harness.end(fourth)
    assert harness.empty()


def test_what_cannot_be_read_is_read_at_the_next_wake_and_goes_before_what_is_new(logged: list[LogEvent]) -> None:
    harness = Harness()
    harness.fault_of_read = MemoryError()
    harness.add(due_handling(1, "a", 10))
    harness.queue.wake(["a"])
    harness.count = 1
    second = harness.offer("a")
    assert harness.queue.has_due()
    assert harness.started == []
    assert [each["problem"].partition(" (")[0] for each in logged] == ["MemoryError"]
    harness.fault_of_read = None
    harness.queue.wake([])
    harness.answer()
    harness.end(1)
    assert harness.started == [1, second]
    harness.end(second)
    assert harness.empty()


def test_a_handling_that_ends_twice_has_ended_once() -> None:
    harness = Harness(concurrency=1)
    harness.offer("a")
    second = harness.offer("a")
    entry = harness.entries[0]
    harness.end(1)
    harness.queue.ended(entry)
    assert harness.started == [1, second]
    harness.end(second)
    assert harness.empty()


def test_a_queue_tells_whether_something_waits_that_should_have_its_turn() -> None:
    harness = Harness(concurrency=2)
    harness.offer("a")
    assert not harness.queue.has_due()
    harness.offer("a")  # behind the older event of its repository
    assert not harness.queue.has_due()
    harness.offer("b")
    assert not harness.queue.has_due()
    harness.offer("c")  # no handler is left for it
    assert harness.queue.has_due()
    harness.end(1)
    assert harness.queue.moves == 4
    harness.queue.handled(harness.entries[1])  # through, and not written down
    harness.end(harness.started[-1])
    assert harness.queue.has_due()


def test_once_a_handler_is_through_the_next_event_of_its_group_starts() -> None:
    harness = Harness(concurrency=1)
    harness.offer("a")
    harness.offer("a")
    harness.queue.handled(harness.entries[0])
    assert harness.started == [1, 2]
    harness.end(1)
    assert harness.started == [1, 2]
    harness.end(2)
    assert harness.empty()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_timing_every_event_is_handled_once_and_in_order(seed: int) -> None:
    random = Random(seed)
    harness = Harness(concurrency=random.choice([1, 3, 50]), woken=False)
    groups = [f"group{number}" for number in range(random.choice([1, 5, 60]))]
    weights = [1 / (number + 1) for number in range(len(groups))]
    total = 2000
    while harness.count < total or harness.pending:
        step = random.random()
        if step < 0.4 and harness.count < total:
            for _ in range(random.choice([1, 1, 50])):
                harness.offer(random.choices(groups, weights)[0])
        elif step < 0.8 and harness.active:
            harness.end(random.choice(list(harness.active)))
        elif step < 0.98 and harness.reads:
            harness.answer()
        elif step >= 0.98 or not (harness.active or harness.reads):
            if harness.count >= total:
                assert harness.active or harness.reads or step >= 0.98, "nothing moves, and events are left"
            if step >= 0.98:
                harness.queue.wake(sorted({handling.group for handling in harness.pending.values()}))
        assert harness.queue._waiting <= LIMITS.window
    while harness.reads:
        harness.answer()
    assert max(Counter(harness.started).values()) == 1
    assert len(harness.started) == harness.count
    for order in harness.groups.values():
        assert order == sorted(order)
    assert harness.empty()


def test_a_paused_queue_begins_nothing_and_leaves_what_comes_in_the_journal() -> None:
    harness = Harness(by_hand=False, concurrency=1)
    harness.queue.hold("paused")
    for _ in range(3):
        harness.offer("a")
        harness.offer("b")
    harness.queue.wake(["a", "b"])
    assert (harness.started, harness.read_groups) == ([], [])
    assert not harness.queue.has_due()
    assert harness.queue._waiting == 0
    harness.queue.release("paused")
    assert harness.groups == {"a": [1, 3, 5], "b": [2, 4, 6]}
    assert harness.empty()


def test_a_pause_lets_end_what_is_in_hand_and_keeps_what_waits_behind_it() -> None:
    harness = Harness()
    first, second = harness.offer("a"), harness.offer("a")
    harness.queue.hold("paused")
    third = harness.offer("a")
    harness.end(first)
    assert harness.started == [first]
    assert not harness.queue.has_due()
    harness.queue.release("paused")
    harness.end(second)
    harness.answer()
    assert harness.started == [first, second, third]
    harness.end(third)
    while harness.reads:
        harness.answer()
    assert harness.empty()


def test_a_stop_ends_a_queue_that_is_paused() -> None:
    harness = Harness()
    harness.queue.hold("paused")
    harness.offer("a")
    assert harness.queue.stop().called
    harness.queue.release("paused")
    assert harness.started == []


def test_a_queue_that_is_held_begins_nothing_and_is_not_stalled_whatever_waits_to_be_written_down() -> None:
    harness = Harness(concurrency=2)
    first = harness.offer("a")
    harness.queue.handled(harness.entries[0])
    assert harness.queue.has_due()
    harness.queue.hold("unwritable")
    harness.offer("b")
    harness.queue.hold("paused")
    assert (harness.started, harness.queue.has_due()) == ([first], False)
    harness.queue.release("unwritable")
    assert harness.started == [first]  # a person has paused it
    harness.queue.release("paused")
    harness.answer()
    assert harness.started == [first, 2]


@pytest.mark.parametrize("order", list(permutations(get_args(Hold))))
def test_the_end_of_one_reason_to_hold_a_queue_lets_nothing_go_that_another_holds(order: tuple[Hold, ...]) -> None:
    harness = Harness(by_hand=False)
    for reason in order:
        harness.queue.hold(reason)
        harness.queue.hold(reason)  # told twice, it is one reason
    harness.offer("a")
    *first, last = order
    for reason in (*first, *first):
        harness.queue.release(reason)
    assert (harness.started, harness.queue.is_held) == ([], True)
    harness.queue.release(last)
    assert (harness.started, harness.queue.is_held) == ([1], False)


def calls_of(function: Callable[[], object]) -> int:
    """Return how many calls of functions in Python something takes: a measure of work that no machine changes."""
    count = 0

    def note(_frame: object, what: str, _arg: object) -> None:
        nonlocal count
        count += what == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


def left_in_the_journal(number: int) -> Harness:
    """A queue with one handler, and so many groups with an event in the journal."""
    harness = Harness(concurrency=1)
    for each in range(number):
        harness.add(due_handling(each, f"group{each}", 1))
    harness.queue.wake([each.group for each in harness.pending.values()])
    return harness


def groups_that_wait_for_a_handler(number: int) -> None:
    harness = left_in_the_journal(number)
    while harness.active or harness.reads:
        while harness.reads:
            harness.answer()
        for each in list(harness.active):
            harness.end(each)
    assert len(harness.started) == number
    assert harness.empty()


def groups_that_are_held(number: int) -> None:
    """Each is held from its first event on; they go on one after the other."""
    harness = left_in_the_journal(number)
    held = []
    while harness.active or harness.reads:
        while harness.reads:
            harness.answer()
        for each in list(harness.active):
            del harness.active[each]
            entry = harness.entries[-1]
            held.append(entry.group)
            assert harness.queue.put_back(entry)
    assert (len(held), harness.queue.has_due()) == (number, False)
    for group in held:
        harness.queue.release_group(group)
        while harness.active or harness.reads:
            while harness.reads:
                harness.answer()
            for each in list(harness.active):
                harness.end(each)
    assert len(harness.started) == 2 * number
    assert harness.empty()


@pytest.mark.parametrize("wait", [groups_that_wait_for_a_handler, groups_that_are_held])
def test_the_work_for_a_group_does_not_grow_with_how_many_wait(wait: Callable[[int], None]) -> None:
    few, many = calls_of(lambda: wait(600)), calls_of(lambda: wait(1800))
    assert many < 4 * few
