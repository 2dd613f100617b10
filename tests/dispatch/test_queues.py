"""One subscriber's queue: in order, fair, bounded, and each event once."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest
from plugin_maker import bus_with, event
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from stackit import on
from stackit.dispatch.queues import KEPT_BYTES, SHARE, WINDOW, Item, SubscriberQueue
from stackit.journal import DueHandling


class House:
    """A queue over a list that stands for the journal; handlings and reads end when the test says so."""

    def __init__(self, *, concurrency: int = 4, ordered: bool = True, by_hand: bool = True, woken: bool = True) -> None:
        @on("*", ordered=ordered)
        def handle(event: object) -> None: ...

        (subscriber,) = bus_with(mine=handle).subscribers()
        self.queue = SubscriberQueue(subscriber, concurrency=concurrency, handle=self._handle, read=self._read)
        self.by_hand = by_hand
        self.pending: dict[int, DueHandling] = {}
        self.groups: dict[str, list[int]] = {}
        self.items: list[Item] = []
        self.started: list[int] = []
        self.kept: list[bool] = []
        self.active: dict[int, Deferred[None]] = {}
        self.reads: list[tuple[list[DueHandling], Deferred[list[DueHandling]]]] = []
        self.read_groups: list[str] = []
        self.count = 0
        if woken:
            self.queue.wake([])

    def add(self, handling: DueHandling) -> None:
        self.pending[handling.id] = handling

    def offer(self, group: str, *, size: int = 10) -> int:
        self.count += 1
        handling = DueHandling(self.count, self.count, "mine:handle", group, 0, size)
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

    def _handle(self, _queue: SubscriberQueue, item: Item) -> None:
        item.start(self._run(item))

    async def _run(self, item: Item) -> None:
        handling = item.handling.id
        self.items.append(item)
        self.groups.setdefault(item.handling.group, []).append(handling)
        self.started.append(handling)
        self.kept.append(item.event is not None)
        if self.by_hand:
            self.active[handling] = Deferred()
            await self.active[handling]
        else:
            del self.pending[handling]

    def _read(self, key: str, group: str, limit: int) -> Deferred[list[DueHandling]]:
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
        return not any(left) and queue._waiting == 0 and queue._kept == 0


def throw(fault: BaseException) -> Any:
    raise fault


def test_events_of_one_group_are_handled_one_at_a_time_in_order() -> None:
    house = House()
    first, second, third = (house.offer("a") for _ in range(3))
    assert house.started == [first]
    house.end(first)
    assert house.started == [first, second]
    house.end(second)
    house.end(third)
    assert house.started == [first, second, third]
    assert house.empty()


def test_groups_are_handled_side_by_side_up_to_the_concurrency() -> None:
    house = House(concurrency=2)
    house.offer("a")
    house.offer("b")
    house.offer("c")
    assert house.started == [1, 2]
    house.end(1)
    assert house.started == [1, 2, 3]


def test_events_without_a_repository_wait_for_each_other_as_little_as_unordered_ones() -> None:
    for house, group in ((House(), ""), (House(ordered=False), "a")):
        house.offer(group)
        house.offer(group)
        assert house.started == [1, 2]
        house.end(2)
        house.end(1)
        assert house.empty()


def test_a_busy_group_takes_turns_with_the_others() -> None:
    house = House(concurrency=1)
    for _ in range(20):
        house.offer("busy")
    quiet = house.offer("quiet")
    house.end(1)
    house.end(house.started[-1])
    assert quiet in house.started[:3]


def test_a_group_that_outgrows_its_share_waits_in_the_journal_and_keeps_its_order() -> None:
    house = House()
    total = 5 * SHARE
    for _ in range(total):
        house.offer("a")
    assert house.queue._waiting == SHARE
    while house.active:
        house.end(house.started[-1])
        assert house.queue._waiting <= 2 * SHARE
        while house.reads:
            house.answer()
    assert house.started == list(range(1, total + 1))
    assert house.empty()


def test_what_arrives_while_older_events_wait_in_the_journal_waits_behind_them() -> None:
    house = House()
    for _ in range(SHARE + 2):
        house.offer("a")
    for _ in range(SHARE):
        house.end(house.started[-1])
    late = house.offer("a")  # the read is under way, and was asked before
    while house.active or house.reads:
        while house.reads:
            house.answer()
        house.end(house.started[-1])
    assert house.started == list(range(1, late + 1))
    assert house.empty()


def test_what_ends_during_a_read_that_still_shows_it_is_not_handled_twice() -> None:
    house = House()
    for _ in range(3):
        house.offer("a")
    house.queue.wake(["a"])
    house.end(1)
    house.end(2)
    house.end(3)  # all of them pending in what the read saw
    house.answer()
    assert house.started == [1, 2, 3]
    assert house.empty()


def test_what_is_in_hand_or_waits_is_not_taken_again_from_the_journal() -> None:
    house = House()
    house.offer("a")
    house.offer("a")
    house.queue.wake(["a"])
    house.answer()
    house.end(1)
    house.end(2)
    assert house.started == [1, 2]
    assert house.empty()


def test_a_wake_during_a_read_causes_another_read() -> None:
    house = House()
    house.queue.wake(["a"])
    house.add(DueHandling(7, 7, "mine:handle", "a", 0, 1))
    house.queue.wake(["a"])
    house.answer()
    assert house.started == []
    house.answer()
    assert house.started == [7]
    house.end(7)
    assert house.empty()


def test_before_the_first_wake_older_events_in_the_journal_go_first() -> None:
    house = House(woken=False)
    for number in range(3):
        house.add(DueHandling(100 + number, number, "mine:handle", "a", 0, 1))
    house.offer("a")
    house.queue.wake(["a"])
    while house.reads or house.active:
        while house.reads:
            house.answer()
        if house.active:
            house.end(house.started[-1])
    assert house.started == [100, 101, 102, 1]
    assert house.empty()


def test_a_group_with_nothing_in_the_journal_after_all_is_forgotten() -> None:
    house = House()
    house.queue.wake(["a", "b"])
    house.answer()
    house.answer()
    assert house.empty()


def test_stuck_groups_that_fill_the_window_do_not_starve_a_new_one() -> None:
    stuck = WINDOW // SHARE + 8
    house = House(concurrency=stuck + 1)
    for number in range(stuck):
        for _ in range(2 * SHARE):
            house.offer(f"stuck{number}")
    newcomer = house.offer("new")
    for _ in range(4 * stuck):
        if house.reads:
            house.answer()
    assert newcomer in house.started
    assert house.queue._waiting <= WINDOW


def test_bodies_are_kept_up_to_a_number_of_bytes() -> None:
    house = House(concurrency=1)
    for _ in range(4):
        house.offer("", size=KEPT_BYTES // 2)
    assert house.queue._kept <= KEPT_BYTES
    for number in range(1, 5):
        house.end(number)
    assert house.kept == [True, True, True, False]
    assert house.empty()


def test_thousands_of_handlers_that_end_at_once_are_no_deep_recursion() -> None:
    house = House(by_hand=False, woken=False)
    for number in range(1, 5001):
        house.add(DueHandling(number, number, "mine:handle", "a", 0, 1))
    house.queue.wake(["a"])
    assert house.started == list(range(1, 5001))
    house.count = 5000
    for _ in range(5000):
        house.offer("b")
    assert house.started == list(range(1, 10001))
    assert house.empty()


def test_after_a_stop_nothing_starts_and_it_ends_with_what_runs() -> None:
    house = House(concurrency=1)
    house.offer("a")
    house.offer("b")
    house.queue.wake(["a"])
    stopped = house.queue.stop()
    house.offer("c")
    assert not stopped.called
    house.end(1)
    assert stopped.called
    assert house.started == [1]


def test_an_idle_lane_stops_at_once() -> None:
    house = House()
    house.offer("a")
    house.end(1)
    assert house.queue.stop().called


def test_a_stop_that_is_cancelled_cancels_what_is_in_hand() -> None:
    house = House()
    house.offer("a")
    house.offer("b")
    stopped = house.queue.stop()
    stopped.cancel()
    assert stopped.result is None
    assert not house.queue._active


def test_a_handling_that_fails_after_all_is_logged_and_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[Any] = []
    monkeypatch.setattr("stackit.dispatch.queues._log", Logger(namespace="stackit", observer=logged.append))
    house = House()
    house.offer("a")
    second = house.offer("a")
    del house.pending[1]
    house.active.pop(1).errback(ZeroDivisionError())
    assert [(each["subscriber"], each["log_failure"].type) for each in logged] == [("mine:handle", ZeroDivisionError)]
    house.end(second)
    assert house.empty()


@pytest.mark.parametrize("fault", [RuntimeError("can't start new thread"), KeyboardInterrupt(), GeneratorExit()])
def test_a_handling_that_cannot_be_begun_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    logged: list[Any] = []
    monkeypatch.setattr("stackit.dispatch.queues._log", Logger(namespace="stackit", observer=logged.append))
    house = House(concurrency=1)
    begin, house.queue._handle = house.queue._handle, lambda *_: throw(fault)
    house.offer("a")  # begun at once
    house.count = 2
    house.add(DueHandling(2, 2, "mine:handle", "b", 0, 10))
    house.queue.wake(["b"])
    house.answer()  # begun by the loop
    assert [each["log_failure"].value for each in logged] == [fault] * 2
    assert house.queue.moves == 4
    house.queue._handle = begin
    third, fourth = house.offer("a"), house.offer("b")
    assert house.started == [third]
    house.end(third)
    house.end(fourth)
    assert house.empty()


def test_what_cannot_be_read_is_read_at_the_next_wake_and_goes_before_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logged: list[Any] = []
    monkeypatch.setattr("stackit.dispatch.queues._log", Logger(namespace="stackit", observer=logged.append))
    house = House()
    read, house.queue._read = house.queue._read, lambda *_: throw(MemoryError())
    house.add(DueHandling(1, 1, "mine:handle", "a", 0, 10))
    house.queue.wake(["a"])
    house.count = 1
    second = house.offer("a")
    assert house.queue.waits()
    assert house.started == []
    assert [each["problem"] for each in logged] == ["MemoryError"]
    house.queue._read = read
    house.queue.wake([])
    house.answer()
    house.end(1)
    assert house.started == [1, second]
    house.end(second)
    assert house.empty()


def test_a_handling_that_ends_twice_has_ended_once() -> None:
    house = House(concurrency=1)
    house.offer("a")
    second = house.offer("a")
    item = house.items[0]
    house.end(1)
    house.queue.ended(item)
    assert house.started == [1, second]
    house.end(second)
    assert house.empty()


def test_a_lane_tells_whether_something_waits_that_should_have_its_turn() -> None:
    house = House(concurrency=2)
    house.offer("a")
    assert not house.queue.waits()
    house.offer("a")  # behind the older event of its repository
    assert not house.queue.waits()
    house.offer("b")
    assert not house.queue.waits()
    house.offer("c")  # no handler is left for it
    assert house.queue.waits()
    house.end(1)
    assert house.queue.moves == 4
    house.queue.handled(house.items[1])  # through, and not written down
    house.end(house.started[-1])
    assert house.queue.waits()


def test_once_a_handler_is_through_the_next_event_of_its_group_starts() -> None:
    house = House(concurrency=1)
    house.offer("a")
    house.offer("a")
    house.queue.handled(house.items[0])
    assert house.started == [1, 2]
    house.end(1)
    assert house.started == [1, 2]
    house.end(2)
    assert house.empty()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_timing_every_event_is_handled_once_and_in_order(seed: int) -> None:
    random = Random(seed)
    house = House(concurrency=random.choice([1, 3, 50]), woken=False)
    groups = [f"group{number}" for number in range(random.choice([1, 5, 60]))]
    weights = [1 / (number + 1) for number in range(len(groups))]
    total = 2000
    while house.count < total or house.pending:
        step = random.random()
        if step < 0.4 and house.count < total:
            for _ in range(random.choice([1, 1, 50])):
                house.offer(random.choices(groups, weights)[0])
        elif step < 0.8 and house.active:
            house.end(random.choice(list(house.active)))
        elif step < 0.98 and house.reads:
            house.answer()
        elif step >= 0.98 or not (house.active or house.reads):
            if house.count >= total:
                assert house.active or house.reads or step >= 0.98, "nothing moves, and events are left"
            if step >= 0.98:
                house.queue.wake(sorted({handling.group for handling in house.pending.values()}))
        assert house.queue._waiting <= WINDOW
    while house.reads:
        house.answer()
    assert max(Counter(house.started).values()) == 1
    assert len(house.started) == house.count
    for order in house.groups.values():
        assert order == sorted(order)
    assert house.empty()
