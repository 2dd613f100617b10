"""The stop, for what only waits."""

from __future__ import annotations

from log_capture import problems_logged
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from stackit.api.stop import Stop


def outcome(waiting: Deferred[None]) -> list[object]:
    """Return what a Deferred fires with: nothing while it does not."""
    outcome: list[object] = []
    waiting.addErrback(lambda failure: failure.type).addCallback(outcome.append)
    return outcome


def test_a_sleep_ends_after_its_time_or_with_the_stop() -> None:
    clock, stop = Clock(), Stop()
    short, long = outcome(stop.sleep(clock, 5)), outcome(stop.sleep(clock, 3600))
    clock.advance(5)
    assert (short, long) == ([None], [])
    stop.begin()
    assert long == [CancelledError]
    assert outcome(stop.sleep(clock, 5)) == [CancelledError]
    assert clock.getDelayedCalls() == []


def test_a_sleep_that_is_cancelled_is_forgotten() -> None:
    clock, stop = Clock(), Stop()
    sleeping = stop.sleep(clock, 5)
    cancelled = outcome(sleeping)
    sleeping.cancel()
    stop.begin()
    assert cancelled == [CancelledError]
    assert clock.getDelayedCalls() == []


def test_functions_are_called_once_in_their_order_and_late_ones_at_once() -> None:
    stop = Stop()
    called: list[str] = []
    stop.when_begun(lambda: called.append("first"))
    stop.when_begun(lambda: called.append(f"second, {stop.has_begun}"))
    assert (called, stop.has_begun) == ([], False)
    stop.begin()
    stop.begin()
    assert called == ["first", "second, True"]
    stop.when_begun(lambda: called.append("late"))
    assert called[2:] == ["late"]


def test_a_function_that_fails_is_logged_and_holds_up_no_other() -> None:
    stop, clock = Stop(), Clock()
    called: list[str] = []

    def leave() -> None:
        raise SystemExit("now")

    stop.when_begun(leave)
    stop.when_begun(lambda: called.append("next"))
    sleeping = outcome(stop.sleep(clock, 5))
    with problems_logged() as problems:
        stop.begin()
    assert called == ["next"]
    assert sleeping == [CancelledError]
    assert problems == ["SystemExit: now"]
