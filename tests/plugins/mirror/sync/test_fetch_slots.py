"""How many fetches run at once, and whose turn is next."""

from __future__ import annotations

from functools import partial

import pytest
from twisted.internet.defer import CancelledError

from stackit.plugins.mirror.sync.fetch_slots import EARLY_PER_SLOT, URGENT_TURNS, FetchSlots, Slot, SlotPool, Waiter
from stackit.plugins.mirror.sync.slot_holder import host_of


def taken(*waiters: Waiter) -> list[bool]:
    return [waiter.turn.called for waiter in waiters]


def slot(waiter: Waiter) -> Slot:
    """Return the slot that a waiter has been given."""
    given = waiter.turn.result
    assert isinstance(given, Slot)
    return given


def give_up(waiter: Waiter) -> None:
    waiter.turn.addErrback(lambda failure: failure.trap(CancelledError) and None)
    waiter.turn.cancel()


def test_slots_are_given_in_the_order_of_asking() -> None:
    slots = SlotPool(2, 2)
    waiters = [slots.acquire() for _ in range(4)]
    assert taken(*waiters) == [True, True, False, False]
    slot(waiters[1]).release()
    assert taken(*waiters) == [True, True, True, False]


def test_releasing_twice_counts_once() -> None:
    slots = SlotPool(1, 1)
    waiters = [slots.acquire() for _ in range(3)]
    slot(waiters[0]).release()
    slot(waiters[0]).release()
    assert taken(*waiters) == [True, True, False]


def test_who_gives_up_leaves_the_line() -> None:
    slots = SlotPool(1, 1)
    waiters = [slots.acquire() for _ in range(3)]
    give_up(waiters[1])
    slot(waiters[0]).release()
    assert taken(waiters[2]) == [True]
    slot(waiters[2]).release()
    assert not slots.busy


def test_a_slot_that_is_released_early_lets_another_work() -> None:
    slots = SlotPool(1, 1)
    waiters = [slots.acquire() for _ in range(3)]
    slot(waiters[0]).release_early()
    slot(waiters[0]).release_early()
    assert taken(*waiters) == [True, True, False]
    slot(waiters[0]).release()
    assert taken(*waiters) == [True, True, False]
    slot(waiters[1]).release()
    assert taken(*waiters) == [True, True, True]


def test_of_too_many_that_hang_the_one_that_hangs_longest_is_ended() -> None:
    slots = SlotPool(1, 1)
    ended: list[int] = []
    waiters = [slots.acquire(end=partial(ended.append, number)) for number in range(EARLY_PER_SLOT + 3)]
    for waiter in waiters[:EARLY_PER_SLOT]:
        slot(waiter).release_early()
    assert ended == []
    slot(waiters[0]).resume()  # it goes on after all
    slot(waiters[EARLY_PER_SLOT]).release_early()
    assert ended == [1]
    assert slot(waiters[1]).ended
    slot(waiters[1]).release()
    assert taken(*waiters) == [True] * (EARLY_PER_SLOT + 2) + [False]


def test_what_works_though_it_hung_once_is_never_ended_for_what_hangs() -> None:
    slots, ended = SlotPool(1, 1), []
    waiters = [slots.acquire(end=lambda: ended.append(1)) for _ in range(EARLY_PER_SLOT + 2)]
    for waiter in waiters[: EARLY_PER_SLOT + 1]:
        slot(waiter).release_early()
        slot(waiter).resume()
    assert ended == []
    assert taken(*waiters) == [True] * (EARLY_PER_SLOT + 1) + [False]
    slot(waiters[EARLY_PER_SLOT]).release()
    assert taken(*waiters) == [True] * (EARLY_PER_SLOT + 2)


def test_what_takes_long_lends_its_slot_and_so_do_no_more_than_there_are_slots() -> None:
    slots, ended = SlotPool(1, 2), []
    long = [slots.acquire(str(number), end=lambda: ended.append(1)) for number in range(6)]
    for waiter in long[:3]:
        slot(waiter).release_long_running()
    assert taken(*long) == [True] * 4 + [False] * 2
    slot(long[0]).release_early()  # it hangs as well
    slot(long[0]).release()
    slot(long[2]).release_long_running()
    assert taken(*long) == [True] * 5 + [False]
    assert ended == []


def test_who_is_in_a_hurry_goes_first_and_the_others_still_have_turns() -> None:
    slots = SlotPool(1, 1)
    holder = slots.acquire()
    suspect = [slots.acquire(suspect=True) for _ in range(2)]
    patient = [slots.acquire() for _ in range(3)]
    urgent = [slots.acquire() for _ in range(3 * URGENT_TURNS)]
    for waiter in (*urgent, *suspect):
        slots.prioritise(waiter)
    served = []
    waiting = {"suspect": suspect, "patient": patient, "urgent": urgent}
    while any(waiting.values()):
        slot(holder).release()
        for name, waiters in waiting.items():
            for waiter in [each for each in waiters if each.turn.called]:
                served.append(name)
                waiters.remove(waiter)
                holder = waiter
    assert served[:URGENT_TURNS].count("patient") == 1
    assert served[: 2 * URGENT_TURNS].count("suspect") == 1
    assert served[URGENT_TURNS : 2 * URGENT_TURNS].count("urgent") == URGENT_TURNS - 1
    assert served[: 2 * URGENT_TURNS].count("urgent") == 2 * URGENT_TURNS - 2


def test_hurrying_after_the_turn_has_come_changes_nothing() -> None:
    slots = SlotPool(1, 1)
    waiter = slots.acquire()
    slots.prioritise(waiter)
    assert taken(waiter, slots.acquire()) == [True, False]


def test_who_gives_up_in_a_hurry_leaves_the_line_too() -> None:
    slots = SlotPool(1, 1)
    waiters = [slots.acquire() for _ in range(3)]
    slots.prioritise(waiters[1])
    give_up(waiters[1])
    slot(waiters[0]).release()
    assert taken(waiters[2]) == [True]


def test_one_host_cannot_have_all_slots() -> None:
    slots = SlotPool(2, 4)
    slow = [slots.acquire("slow") for _ in range(10)]
    good = [slots.acquire("good") for _ in range(3)]
    assert taken(*slow) == [True] * 2 + [False] * 8
    assert taken(*good) == [True, True, False]
    slot(good[0]).release()
    assert taken(*good) == [True, True, True]


def test_hosts_take_turns_however_many_wait_for_one() -> None:
    slots = SlotPool(1, 1)
    holder = slots.acquire("other")
    many = [slots.acquire("many") for _ in range(5)]
    few = slots.acquire("few")
    slot(holder).release()
    slot(many[0]).release()
    assert taken(*many, few) == [True, False, False, False, False, True]


def test_each_kind_has_slots_of_its_own() -> None:
    waiters = FetchSlots(1)
    clones = [waiters.of("clone").acquire(host) for host in "abcd"]
    assert taken(*clones) == [True, True, False, False]
    assert not waiters.pushing
    assert taken(waiters.of("background").acquire("a"), waiters.of("push").acquire("a")) == [True, True]
    assert waiters.pushing


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://x@GitHub.com/octo/widget.git", "github.com"),
        ("http://127.0.0.1:8080/octo/widget.git", "127.0.0.1:8080"),
        ("ssh://git@example.org:22/x", "example.org:22"),
        ("git@github.com:octo/widget.git", "github.com"),
        ("/srv/git/odd:name", ""),
        ("file:///srv/git", ""),
    ],
)
def test_the_host_of_a_url(url: str, host: str) -> None:
    assert host_of(url) == host
