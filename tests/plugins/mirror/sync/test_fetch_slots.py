"""How many fetches run at once, and whose turn is next."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError

from stackit.plugins.mirror.sync.fetch_slots import HURRIED, LENDABLE, Place, Places, Slots
from stackit.plugins.mirror.sync.holding import host_of


def taken(*places: Place) -> list[bool]:
    return [place.turn.called for place in places]


def give_up(place: Place) -> None:
    place.turn.addErrback(lambda failure: failure.trap(CancelledError) and None)
    place.turn.cancel()


def test_slots_are_given_in_the_order_of_asking() -> None:
    slots = Slots(2, 2)
    places = [slots.acquire() for _ in range(4)]
    assert taken(*places) == [True, True, False, False]
    places[1].turn.result.release()
    assert taken(*places) == [True, True, True, False]


def test_releasing_twice_counts_once() -> None:
    slots = Slots(1, 1)
    places = [slots.acquire() for _ in range(3)]
    places[0].turn.result.release()
    places[0].turn.result.release()
    assert taken(*places) == [True, True, False]


def test_who_gives_up_leaves_the_line() -> None:
    slots = Slots(1, 1)
    places = [slots.acquire() for _ in range(3)]
    give_up(places[1])
    places[0].turn.result.release()
    assert taken(places[2]) == [True]
    places[2].turn.result.release()
    assert not slots.busy


def test_a_lent_slot_lets_another_work() -> None:
    slots = Slots(1, 1)
    places = [slots.acquire() for _ in range(3)]
    places[0].turn.result.lend()
    places[0].turn.result.lend()
    assert taken(*places) == [True, True, False]
    places[0].turn.result.release()
    assert taken(*places) == [True, True, False]
    places[1].turn.result.release()
    assert taken(*places) == [True, True, True]


def test_of_too_many_that_hang_the_one_that_hangs_longest_is_ended() -> None:
    slots, ended = Slots(1, 1), []
    places = [slots.acquire(end=lambda number=number: ended.append(number)) for number in range(LENDABLE + 3)]
    for place in places[:LENDABLE]:
        place.turn.result.lend()
    assert ended == []
    places[0].turn.result.alive()  # it goes on after all
    places[LENDABLE].turn.result.lend()
    assert ended == [1]
    assert places[1].turn.result.ended
    places[1].turn.result.release()
    assert taken(*places) == [True] * (LENDABLE + 2) + [False]


def test_what_works_though_it_hung_once_is_never_ended_for_what_hangs() -> None:
    slots, ended = Slots(1, 1), []
    places = [slots.acquire(end=lambda: ended.append(1)) for _ in range(LENDABLE + 2)]
    for place in places[: LENDABLE + 1]:
        place.turn.result.lend()
        place.turn.result.alive()
    assert ended == []
    assert taken(*places) == [True] * (LENDABLE + 1) + [False]
    places[LENDABLE].turn.result.release()
    assert taken(*places) == [True] * (LENDABLE + 2)


def test_what_takes_long_lends_its_slot_and_so_do_no_more_than_there_are_slots() -> None:
    slots, ended = Slots(1, 2), []
    long = [slots.acquire(str(number), end=lambda: ended.append(1)) for number in range(6)]
    for place in long[:3]:
        place.turn.result.lend_long()
    assert taken(*long) == [True] * 4 + [False] * 2
    long[0].turn.result.lend()  # it hangs as well
    long[0].turn.result.release()
    long[2].turn.result.lend_long()
    assert taken(*long) == [True] * 5 + [False]
    assert ended == []


def test_who_is_in_a_hurry_goes_first_and_the_others_still_have_turns() -> None:
    slots = Slots(1, 1)
    holder = slots.acquire()
    doubtful = [slots.acquire(doubtful=True) for _ in range(2)]
    patient = [slots.acquire() for _ in range(3)]
    hurried = [slots.acquire() for _ in range(3 * HURRIED)]
    for place in (*hurried, *doubtful):
        slots.hurry(place)
    served = []
    waiting = {"doubtful": doubtful, "patient": patient, "hurried": hurried}
    while any(waiting.values()):
        holder.turn.result.release()
        for name, places in waiting.items():
            for place in [each for each in places if each.turn.called]:
                served.append(name)
                places.remove(place)
                holder = place
    assert served[:HURRIED].count("patient") == 1
    assert served[: 2 * HURRIED].count("doubtful") == 1
    assert served[HURRIED : 2 * HURRIED].count("hurried") == HURRIED - 1
    assert served[: 2 * HURRIED].count("hurried") == 2 * HURRIED - 2


def test_hurrying_after_the_turn_has_come_changes_nothing() -> None:
    slots = Slots(1, 1)
    place = slots.acquire()
    slots.hurry(place)
    assert taken(place, slots.acquire()) == [True, False]


def test_who_gives_up_in_a_hurry_leaves_the_line_too() -> None:
    slots = Slots(1, 1)
    places = [slots.acquire() for _ in range(3)]
    slots.hurry(places[1])
    give_up(places[1])
    places[0].turn.result.release()
    assert taken(places[2]) == [True]


def test_one_host_cannot_have_all_slots() -> None:
    slots = Slots(2, 4)
    slow = [slots.acquire("slow") for _ in range(10)]
    good = [slots.acquire("good") for _ in range(3)]
    assert taken(*slow) == [True] * 2 + [False] * 8
    assert taken(*good) == [True, True, False]
    good[0].turn.result.release()
    assert taken(*good) == [True, True, True]


def test_hosts_take_turns_however_many_wait_for_one() -> None:
    slots = Slots(1, 1)
    holder = slots.acquire("other")
    many = [slots.acquire("many") for _ in range(5)]
    few = slots.acquire("few")
    holder.turn.result.release()
    many[0].turn.result.release()
    assert taken(*many, few) == [True, False, False, False, False, True]


def test_each_kind_has_slots_of_its_own() -> None:
    places = Places(1)
    clones = [places.of("clone").acquire(host) for host in "abcd"]
    assert taken(*clones) == [True, True, False, False]
    assert not places.pushing
    assert taken(places.of("look").acquire("a"), places.of("push").acquire("a")) == [True, True]
    assert places.pushing


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
