"""CoroutineRunner: a coroutine run without a Deferred of its own."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from stackit.dispatch.coroutine_runner import CoroutineRunner


class Outcome:
    """The results of CoroutineRunner: values that were returned, and exceptions that were raised."""

    def __init__(self) -> None:
        self.returned: list[object] = []
        self.raised: list[BaseException] = []

    def of(self, work: Any) -> CoroutineRunner[Any]:
        running = CoroutineRunner(work, self.returned.append, self.failed)
        running.start()
        return running

    def failed(self, failure: Failure) -> None:
        assert failure.value is not None
        self.raised.append(failure.value)


@pytest.fixture
def outcome() -> Outcome:
    return Outcome()


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def added(*numbers: Deferred[int]) -> int:
    return sum([await each for each in numbers])


def test_one_that_waits_for_nothing_is_through_at_once(outcome: Outcome) -> None:
    outcome.of(added())
    outcome.of(added(succeed(1), succeed(2)))
    assert (outcome.returned, outcome.raised) == ([0, 3], [])


def test_one_goes_on_whenever_what_it_waits_for_is_there(outcome: Outcome) -> None:
    first, second, third = Deferred[int](), succeed(10), Deferred[int]()
    outcome.of(added(first, second, third))
    first.callback(1)
    assert outcome.returned == []
    third.callback(100)
    assert (outcome.returned, outcome.raised) == ([111], [])


@pytest.mark.parametrize("problem", [ValueError("no"), SystemExit(1)])
def test_what_is_raised_is_told_once(problem: BaseException, outcome: Outcome) -> None:
    def fail(_: object) -> None:
        raise problem

    first, second = Deferred[int](), Deferred[int]()
    second.addCallback(fail)
    outcome.of(added(first, second))
    first.callback(1)
    second.callback(1)
    CoroutineRunner(added(), fail, outcome.failed).start()
    assert (outcome.returned, outcome.raised) == ([], [problem, problem])


def test_a_failure_of_what_it_waits_for_can_be_caught(outcome: Outcome) -> None:
    async def careful(number: Deferred[int]) -> int:
        try:
            return await number
        except ValueError:
            return -1

    late, failed = Deferred[int](), Deferred[int]()
    failed.errback(ValueError())
    for each in (late, failed):
        outcome.of(careful(each))
    late.errback(ValueError())
    assert (outcome.returned, outcome.raised) == ([-1, -1], [])


def test_cancelling_one_cancels_what_it_waits_for(outcome: Outcome) -> None:
    first, second = Deferred[int](), Deferred[int]()
    running = outcome.of(added(first, second))
    first.callback(1)
    running.cancel()
    second.callback(1)  # the coroutine no longer waits for it
    assert outcome.returned == []
    assert [type(each) for each in outcome.raised] == [CancelledError]
    running.cancel()
    assert len(outcome.raised) == 1


def test_one_may_go_on_after_it_was_cancelled(outcome: Outcome) -> None:
    async def tidy(number: Deferred[int], rest: Deferred[int]) -> int:
        try:
            return await number
        except CancelledError:
            return await rest

    rest = Deferred[int]()
    outcome.of(tidy(Deferred(), rest)).cancel()
    rest.callback(2)
    assert (outcome.returned, outcome.raised) == ([2], [])


def test_nothing_is_left_for_the_garbage_collector(outcome: Outcome, no_collector: None) -> None:
    class Body:
        pass

    async def hold(body: Any, until: Deferred[None]) -> None:
        await until

    body, until = Body(), Deferred[None]()
    there = weakref.ref(body)
    outcome.of(hold(body, until))
    del body
    assert there() is not None
    until.callback(None)
    assert there() is None
