"""What is done every few seconds: from the start to the stop, and never twice at once."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from stackit.api.periodic import Periodic


def test_it_is_done_at_the_start_and_then_every_so_often_until_the_stop() -> None:
    clock, done = Clock(), list[float]()
    service = Periodic(clock, 5.0, lambda: done.append(clock.seconds()))
    assert done == []
    service.startService()
    clock.pump([1.0] * 11)
    service.stopService()
    clock.pump([1.0] * 11)
    assert done == [0.0, 5.0, 10.0]
    assert clock.getDelayedCalls() == []


def test_the_next_one_waits_for_the_end_of_the_last_and_a_stop_for_none() -> None:
    clock, begun = Clock(), list[Deferred[None]]()

    async def slow() -> None:
        begun.append(Deferred())
        await begun[-1]

    service = Periodic(clock, 5.0, slow)
    service.startService()
    clock.pump([1.0] * 11)
    assert len(begun) == 1
    begun[0].callback(None)
    clock.pump([1.0] * 5)
    assert len(begun) == 2
    service.stopService()
    begun[1].callback(None)
    clock.pump([1.0] * 11)
    assert len(begun) == 2


def test_what_it_raises_is_logged_and_it_is_done_again(logged_failures: list[LogEvent]) -> None:
    clock, done = Clock(), list[float]()

    def at_once() -> None:
        done.append(clock.seconds())
        raise ValueError

    async def later() -> None:
        at_once()

    for function in (at_once, later):
        service = Periodic(clock, 5.0, function)
        done.clear()
        service.startService()
        clock.pump([1.0] * 6)
        service.stopService()
        assert len(done) == 2
    assert [type(each["log_failure"].value) for each in logged_failures] == [ValueError] * 4
    logged_failures.clear()


def test_a_stop_without_a_start_and_a_second_stop_are_none() -> None:
    clock = Clock()
    service = Periodic(clock, 5.0, lambda: None)
    service.stopService()
    service.startService()
    service.stopService()
    service.stopService()
    assert clock.getDelayedCalls() == []
