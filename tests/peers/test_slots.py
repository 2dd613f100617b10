"""Slots: who waits, who is given up, and that none is lost."""

from __future__ import annotations

from clocks import as_reactor
from twisted.internet.task import Clock

from stackit.peers.slots import Slots


class Asker:
    """One who asks for a slot; ``is_gone`` makes no use of it."""

    def __init__(self, slots: Slots, *, is_gone: bool = False) -> None:
        self.state = "waits"
        self._slots = slots
        self._is_gone = is_gone
        slots.ask(self._begin, self._give_up)

    def _begin(self) -> None:
        self.state = "gone" if self._is_gone else "begun"
        if not self._is_gone:
            self._slots.enter()

    def _give_up(self) -> None:
        self.state = "given up"


def test_those_who_wait_come_in_turn_and_one_who_is_gone_takes_none() -> None:
    slots = Slots(as_reactor(Clock()), 1, 30.0)
    first, gone = Asker(slots), Asker(slots, is_gone=True)
    assert slots.is_full
    slots.leave()
    assert (first.state, gone.state, slots.taken) == ("begun", "gone", 0)
    assert [Asker(slots).state, Asker(slots).state] == ["begun", "waits"]


def test_who_has_waited_for_long_is_given_up() -> None:
    clock = Clock()
    slots = Slots(as_reactor(clock), 1, 30.0)
    Asker(slots)
    late = Asker(slots)
    clock.advance(29)
    assert late.state == "waits"
    clock.advance(2)
    assert late.state == "given up"
    slots.leave()
    assert (late.state, slots.taken) == ("given up", 0)
    assert clock.getDelayedCalls() == []


def test_no_more_wait_than_may_begin_at_once() -> None:
    slots = Slots(as_reactor(Clock()), 2, 30.0)
    assert [Asker(slots).state for _ in range(6)] == ["begun", "begun", "waits", "waits", "given up", "given up"]


def test_nobody_waits_for_what_is_closed() -> None:
    clock = Clock()
    slots = Slots(as_reactor(clock), 1, 30.0)
    Asker(slots)
    waits = Asker(slots)
    slots.close()
    assert waits.state == "given up"
    assert Asker(slots).state == "given up"
    slots.leave()
    assert clock.getDelayedCalls() == []
