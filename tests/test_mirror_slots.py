"""How many fetches run at once."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred

from stackit.plugins.mirror.slots import HURRIED, LENDABLE, Slot, Slots


def taken(*places: Deferred[Slot]) -> list[bool]:
    return [place.called for place in places]


def test_slots_are_given_in_the_order_of_asking() -> None:
    slots = Slots(2)
    places = [slots.acquire() for _ in range(4)]
    assert taken(*places) == [True, True, False, False]
    places[1].result.release()
    assert taken(*places) == [True, True, True, False]


def test_releasing_twice_counts_once() -> None:
    slots = Slots(1)
    places = [slots.acquire() for _ in range(3)]
    places[0].result.release()
    places[0].result.release()
    assert taken(*places) == [True, True, False]


def test_who_gives_up_leaves_the_line() -> None:
    slots = Slots(1)
    places = [slots.acquire() for _ in range(3)]
    places[1].addErrback(lambda failure: failure.trap(CancelledError) and None)
    places[1].cancel()
    places[0].result.release()
    assert taken(places[2]) == [True]


def test_a_lent_slot_lets_another_work() -> None:
    slots = Slots(1)
    places = [slots.acquire() for _ in range(3)]
    places[0].result.lend()
    places[0].result.lend()
    assert taken(*places) == [True, True, False]
    places[0].result.release()
    assert taken(*places) == [True, True, False]
    places[1].result.release()
    assert taken(*places) == [True, True, True]


def test_lending_has_a_bound() -> None:
    slots = Slots(1)
    places = [slots.acquire() for _ in range(LENDABLE + 2)]
    for place in places[:LENDABLE]:
        place.result.lend()
    assert taken(*places) == [True] * LENDABLE + [False, False]
    places[0].result.release()
    assert taken(*places) == [True] * (LENDABLE + 1) + [False]


def test_who_is_in_a_hurry_goes_first_and_the_others_still_have_turns() -> None:
    slots = Slots(1)
    holder = slots.acquire()
    patient = [slots.acquire() for _ in range(3)]
    hurried = [slots.acquire() for _ in range(2 * HURRIED)]
    for place in hurried:
        slots.hurry(place)
    served = []
    while not all(taken(*patient, *hurried)):
        before = taken(*patient)
        holder.result.release()
        served.append("patient" if taken(*patient) != before else "hurried")
        holder = next(place for place in (*patient, *hurried) if place.called and not place.result._released)
    assert served[:HURRIED].count("patient") == 1
    assert served[HURRIED : 2 * HURRIED].count("patient") == 1


def test_hurrying_after_the_turn_has_come_changes_nothing() -> None:
    slots = Slots(1)
    place = slots.acquire()
    slots.hurry(place)
    assert taken(place, slots.acquire()) == [True, False]


def test_who_gives_up_in_a_hurry_leaves_the_line_too() -> None:
    slots = Slots(1)
    places = [slots.acquire() for _ in range(3)]
    places[1].addErrback(lambda failure: failure.trap(CancelledError) and None)
    slots.hurry(places[1])
    places[1].cancel()
    places[0].result.release()
    assert taken(places[2]) == [True]
