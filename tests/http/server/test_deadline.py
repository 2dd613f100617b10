"""A deadline that is moved again and again."""

from __future__ import annotations

from twisted.internet.task import Clock

from stackit.http.server.deadline import Deadline


def test_it_expires_when_it_was_moved_to_last_and_costs_one_timer() -> None:
    clock = Clock()
    expired: list[float] = []
    deadline = Deadline(clock, lambda: expired.append(clock.seconds()))
    for _ in range(20):
        deadline.restart(30)
        clock.advance(10)
        assert len(clock.getDelayedCalls()) == 1
    assert expired == []
    clock.advance(20)
    assert expired == [220.0]
    assert clock.getDelayedCalls() == []


def test_it_may_be_moved_nearer() -> None:
    clock = Clock()
    expired: list[float] = []
    deadline = Deadline(clock, lambda: expired.append(clock.seconds()))
    deadline.restart(30)
    deadline.restart(2)
    clock.advance(2)
    assert expired == [2.0]
    deadline.restart(5)
    clock.advance(5)
    assert expired == [2.0, 7.0]


def test_one_that_is_cancelled_never_expires() -> None:
    clock = Clock()
    expired: list[float] = []
    deadline = Deadline(clock, lambda: expired.append(clock.seconds()))
    deadline.cancel()
    deadline.restart(1)
    deadline.cancel()
    clock.advance(10)
    assert expired == []
    assert clock.getDelayedCalls() == []
