"""What plugins use of the reactor."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from stackit import StackitError, sleep
from stackit.api.reactor import overdue, within


@pytest.mark.parametrize("given", [90, 90.0, "90s", "1.5m"])
def test_a_sleep_is_a_number_of_seconds_or_a_text_with_a_unit(given: float | str) -> None:
    clock = Clock()
    slept = sleep(clock, given)
    clock.advance(89)
    assert not slept.called
    clock.advance(1)
    assert slept.called


def test_a_sleep_of_no_known_time_says_what_would_be() -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        sleep(Clock(), "soon")


async def ending_with(waited: Deferred[str]) -> str:
    return await waited


async def stubborn(waited: Deferred[str]) -> str:
    """Have a result however the wait ends."""
    try:
        return await waited
    except CancelledError:
        return "half of it"


def test_what_ends_in_time_has_its_result_and_leaves_no_timer() -> None:
    clock, waited = Clock(), Deferred[str]()
    bounded = Deferred.fromCoroutine(within(clock, 30, ending_with(waited)))
    clock.advance(29)
    waited.callback("done")
    assert bounded.result == "done"
    assert clock.getDelayedCalls() == []


def test_what_takes_longer_is_cancelled_and_told_as_a_timeout() -> None:
    clock, cancelled = Clock(), list[Deferred[str]]()
    bounded = Deferred.fromCoroutine(within(clock, 30, ending_with(Deferred(cancelled.append))))
    clock.advance(30)
    assert len(cancelled) == 1
    bounded.addErrback(lambda failure: failure.value)
    assert isinstance(bounded.result, TimeoutError)
    assert str(bounded.result) == "not done within 30 s"


def test_what_has_a_result_as_it_is_cancelled_keeps_it() -> None:
    clock = Clock()
    bounded = Deferred.fromCoroutine(within(clock, 30, stubborn(Deferred())))
    clock.advance(30)
    assert bounded.result == "half of it"


def test_what_fails_tells_its_own_error() -> None:
    clock, waited = Clock(), Deferred[str]()
    bounded = Deferred.fromCoroutine(within(clock, 30, ending_with(waited)))
    waited.errback(StackitError("no"))
    bounded.addErrback(lambda failure: failure.value)
    assert isinstance(bounded.result, StackitError)
    assert clock.getDelayedCalls() == []


def test_a_wait_that_is_cancelled_from_outside_is_no_timeout() -> None:
    clock = Clock()
    bounded = Deferred.fromCoroutine(within(clock, 30, ending_with(Deferred())))
    bounded.cancel()
    bounded.addErrback(lambda failure: failure.value)
    assert isinstance(bounded.result, CancelledError)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(("seconds", "calls"), [(29, 0), (31, 1), (90, 1)])
def test_what_is_overdue_is_acted_on_once(seconds: int, calls: int) -> None:
    clock, acted, waited = Clock(), list[float](), Deferred[None]()

    async def work() -> None:
        with overdue(clock, 30, lambda: acted.append(clock.seconds())):
            await waited

    working = Deferred.fromCoroutine(work())
    clock.pump([1] * seconds)
    assert not working.called
    waited.callback(None)
    clock.pump([1] * 60)
    assert (working.called, acted) == (True, [30.0] * calls)


def test_what_fails_in_time_is_not_acted_on() -> None:
    clock = Clock()
    with pytest.raises(StackitError), overdue(clock, 30, lambda: None):
        raise StackitError("no")
    assert clock.getDelayedCalls() == []
