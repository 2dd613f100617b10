"""The lease as a node counts it by its own clock."""

from __future__ import annotations

import math

import pytest
from twisted.internet.task import Clock

from stackit.fleet.lease import Lease


@pytest.mark.parametrize(("seconds", "works_for"), [(10.0, 9.0), (5.0, 4.5), (2.0, 1.5)])
def test_a_lease_ends_before_that_in_the_database_counted_from_when_it_was_asked_for(
    seconds: float, works_for: float
) -> None:
    clock, over = Clock(), []
    lease = Lease(seconds, clock=clock.seconds, reactor=clock, over=lambda: over.append(clock.seconds()))
    assert not lease.holds()
    assert (lease.left(), lease.unanswered_for()) == (0.0, math.inf)
    asked_at = clock.seconds()
    clock.advance(0.25)  # the answer takes a while
    lease.renew(asked_at)
    assert lease.holds()
    assert (lease.left(), lease.unanswered_for()) == (works_for - 0.25, 0.25)
    clock.advance(1.0)
    lease.renew(clock.seconds())
    assert lease.unanswered_for() == 0.0
    clock.advance(works_for - 0.01)
    assert lease.holds()
    assert over == []
    clock.advance(0.01)
    assert not lease.holds()
    assert over == [1.25 + works_for]


def test_a_lease_is_over_for_a_process_that_stood_still_before_its_timers_know() -> None:
    clock = Clock()
    lease = Lease(10.0, clock=clock.seconds, reactor=clock, over=pytest.fail)
    lease.renew(0.0)
    clock.rightNow += 9.0
    assert not lease.holds()
    assert lease.left() == 0.0


def test_a_lease_goes_on_while_the_machine_is_suspended_and_its_timers_are_not() -> None:
    timers, slept, over = Clock(), 0.0, list[float]()
    lease = Lease(10.0, clock=lambda: timers.seconds() + slept, reactor=timers, over=lambda: over.append(slept))
    lease.renew(0.0)
    slept = 8.0
    assert lease.holds()
    assert (lease.left(), lease.unanswered_for()) == (1.0, 8.0)
    slept = 3600.0
    assert not lease.holds()
    assert lease.is_over(0.0)
    timers.advance(0.2)
    assert over == [3600.0]


def test_a_lease_that_is_over_says_so_to_who_does_not_wait_for_the_timer() -> None:
    clock, over = Clock(), []
    lease = Lease(10.0, clock=clock.seconds, reactor=clock, over=lambda: over.append(clock.seconds()))
    lease.look()
    lease.renew(0.0)
    lease.look()
    assert over == []
    clock.rightNow += 9.0
    lease.look()
    assert over == [9.0]


def test_a_lease_that_was_ended_does_not_end_by_itself() -> None:
    clock = Clock()
    lease = Lease(10.0, clock=clock.seconds, reactor=clock, over=pytest.fail)
    lease.renew(0.0)
    lease.end()
    assert not lease.holds()
    assert clock.getDelayedCalls() == []
