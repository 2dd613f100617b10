"""Foreign work is bounded in time, whatever it does about it."""

from __future__ import annotations

from typing import Any

import pytest
from clocks import as_reactor
from log_capture import problems_logged
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stackit.bus.timeouts import HandlerTimeout, wait_or_cancel, with_timeout


def outcome(result: Deferred[Any]) -> Any:
    """What the Deferred has come to; None while it has not."""
    found: list[Any] = []
    result.addBoth(found.append)
    return found[0] if found else None


def start(coroutine: Any) -> Deferred[Any]:
    return Deferred.fromCoroutine(coroutine)


async def swallow(forever: Deferred[None]) -> str:
    while not forever.called or forever.result is not None:
        try:
            await forever
        except CancelledError:
            forever = Deferred()
    return "late"


def test_what_ends_at_once_takes_no_timer() -> None:
    clock = Clock()
    assert outcome(with_timeout(as_reactor(clock), succeed("done"), 5)) == "done"
    assert clock.getDelayedCalls() == []


def test_what_ends_in_time_leaves_no_timer() -> None:
    clock, running = Clock(), Deferred[str]()
    bound = with_timeout(as_reactor(clock), running, 5)
    clock.advance(4.9)
    running.callback("done")
    assert outcome(bound) == "done"
    assert clock.getDelayedCalls() == []


def test_a_failure_passes_through_as_it_was() -> None:
    clock, running = Clock(), Deferred[str]()
    bound = with_timeout(as_reactor(clock), running, 5)
    running.errback(KeyError("x"))
    assert outcome(bound).check(KeyError)
    assert clock.getDelayedCalls() == []


def test_what_outlives_its_timeout_is_cancelled_and_failed() -> None:
    clock = Clock()
    cancelled: list[Deferred[None]] = []
    bound = with_timeout(as_reactor(clock), Deferred(cancelled.append), 5)
    clock.advance(5)
    assert len(cancelled) == 1
    failure = outcome(bound)
    assert failure.check(HandlerTimeout)
    assert str(failure.value) == "not finished after 5 s, cancelled"


def test_a_handler_that_gives_way_at_its_timeout_has_timed_out_all_the_same() -> None:
    async def give_way() -> str:
        try:
            await Deferred()
        except CancelledError:
            return "tidied up"
        return "never"

    clock = Clock()
    bound = with_timeout(as_reactor(clock), start(give_way()), 5)
    clock.advance(5)
    assert outcome(bound).check(HandlerTimeout)


def test_a_handler_that_swallows_its_cancellation_is_abandoned() -> None:
    clock = Clock()
    bound = with_timeout(as_reactor(clock), start(swallow(Deferred())), 5)
    clock.advance(5)
    assert outcome(bound).check(HandlerTimeout)


def test_the_late_outcome_of_an_abandoned_handler_is_nobodys() -> None:
    clock = Clock()
    late: Deferred[None] = Deferred()

    async def stubborn() -> None:
        try:
            await Deferred()
        except CancelledError:
            await late

    bound = with_timeout(as_reactor(clock), start(stubborn()), 5)
    clock.advance(5)
    assert outcome(bound).check(HandlerTimeout)
    with problems_logged() as lines:
        late.errback(RuntimeError("far too late"))
    assert lines == []


def test_a_canceller_that_raises_does_not_keep_the_timeout_from_coming() -> None:
    def refuse(_: Deferred[None]) -> None:
        raise RuntimeError("you cannot cancel me")

    clock = Clock()
    bound = with_timeout(as_reactor(clock), Deferred(refuse), 5)
    with problems_logged() as lines:
        clock.advance(5)
    assert outcome(bound).check(HandlerTimeout)
    assert lines == ["RuntimeError: you cannot cancel me"]


def test_without_a_limit_nothing_is_ever_cut() -> None:
    clock, running = Clock(), Deferred[None]()
    bound = with_timeout(as_reactor(clock), running, 0)
    clock.advance(10**9)
    assert outcome(bound) is None
    assert clock.getDelayedCalls() == []


def test_cancelling_the_outcome_cancels_the_handler_and_the_timer() -> None:
    clock = Clock()
    cancelled: list[Deferred[None]] = []
    bound = with_timeout(as_reactor(clock), Deferred(cancelled.append), 5)
    bound.cancel()
    assert len(cancelled) == 1
    assert outcome(bound).check(CancelledError)
    assert clock.getDelayedCalls() == []


def test_cancelling_the_outcome_of_a_handler_that_will_not_stop_ends_the_outcome() -> None:
    clock = Clock()
    bound = with_timeout(as_reactor(clock), start(swallow(Deferred())), 5)
    bound.cancel()
    assert outcome(bound).check(CancelledError)
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("leaving", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_handler_that_would_end_the_process_has_failed(leaving: BaseException) -> None:
    clock, running = Clock(), Deferred[None]()
    bound = with_timeout(as_reactor(clock), running, 5)
    running.errback(Failure(leaving))
    failure = outcome(bound)
    assert failure.check(RuntimeError)
    assert type(leaving).__name__ in str(failure.value)


# -- settling ---------------------------------------------------------------------


def test_settling_nothing_takes_no_time() -> None:
    clock = Clock()
    settled = start(wait_or_cancel(clock, [], 5))
    assert settled.called
    assert clock.getDelayedCalls() == []


def test_settling_ends_with_the_last_one_that_runs() -> None:
    clock, one, two = Clock(), Deferred[None](), Deferred[None]()
    settled = start(wait_or_cancel(clock, [one, two], 5))
    one.callback(None)
    assert not settled.called
    two.errback(RuntimeError("its own affair"))
    assert settled.called
    assert clock.getDelayedCalls() == []


def test_after_the_grace_what_still_runs_is_cancelled() -> None:
    clock = Clock()
    finished, stubborn = Deferred[None](), start(swallow(Deferred()))
    settled = start(
        wait_or_cancel(
            clock,
            [finished, with_timeout(as_reactor(clock), stubborn, 0), with_timeout(as_reactor(clock), Deferred(), 9)],
            5,
        )
    )
    finished.callback(None)
    clock.advance(4.9)
    assert not settled.called
    clock.advance(0.1)
    assert settled.called
    assert clock.getDelayedCalls() == []
