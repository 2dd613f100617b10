"""A subscriber that stands still while something is due is seen, and mended where that is ours to do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from dispatch_harness import TIMEOUT, Harness
from twisted.internet.defer import Deferred

from stackit import on
from stackit.dispatch.stalls import BOUND, INTERVAL, WAKE_AFTER, StallDetector
from stackit.journal.sqlite import SQLiteJournal

Open = Callable[..., tuple[Harness, StallDetector, list[str]]]


@pytest_twisted.async_yield_fixture
async def watched(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens harnesses whose queues are watched: the harness, who watches, and what it tells."""
    opened: list[tuple[Harness, StallDetector]] = []

    def open_one(**arguments: Any) -> tuple[Harness, StallDetector, list[str]]:
        told: list[str] = []
        harness = Harness(tmp_path, **arguments)
        stalls = StallDetector(
            reactor=harness.clock, dispatch=harness.dispatch, display=harness.bus.display, notice=told.append
        )
        stalls.startService()
        opened.append((harness, stalls))
        return harness, stalls, told

    yield open_one
    for harness, stalls in opened:
        stalls.stopService()
        await harness.close()


class Hanging:
    """A handler without a limit, with two places, whose runs end when the test says so."""

    def __init__(self) -> None:
        self.running: list[Deferred[None]] = []

    @on("*", timeout=0, concurrency=2)
    def handle(self, event: object) -> Deferred[None]:
        self.running.append(Deferred())
        return self.running[-1]


async def pass_time(harness: Harness, seconds: float) -> None:
    """In steps, as the reactor makes them."""
    for _ in range(int(seconds / INTERVAL)):
        harness.clock.advance(INTERVAL)
    await harness.quiet()


@pytest_twisted.ensureDeferred
async def test_where_nothing_is_due_or_all_that_is_due_has_its_turn_nothing_stands_still(watched: Open) -> None:
    hanging = Hanging()
    harness, stalls, told = watched(mine=hanging)
    assert stalls.seconds() == {"mine": 0}
    for _ in range(3):  # of one repository: two wait for the first, as they should
        await harness.take("octo/first")
    await harness.take("octo/second")
    await pass_time(harness, 10 * BOUND)
    assert len(hanging.running) == 2
    assert (stalls.seconds(), stalls.problems(), told) == ({"mine": 0}, [], [])


@pytest_twisted.ensureDeferred
async def test_a_subscriber_whose_handlers_all_hang_is_told_of_once_and_no_more_when_it_moves(watched: Open) -> None:
    hanging = Hanging()
    harness, stalls, told = watched(mine=hanging)
    for number in range(5):
        await harness.take(f"octo/r{number}")
    assert stalls.seconds() == {"mine": 0}
    await pass_time(harness, BOUND)
    assert stalls.seconds() == {"mine": BOUND}
    assert stalls.problems() == []
    await pass_time(harness, 5 * INTERVAL)
    problem = (
        f"mine: 5 events are due or in hand, and none has begun or ended for {BOUND + 5 * INTERVAL:.0f} seconds: "
        "see whether its handlers hang, and restart stackit"
    )
    assert stalls.problems() == [problem]
    assert [each.partition(":")[0] for each in told] == ["mine"]
    hanging.running[0].callback(None)
    await harness.quiet()
    assert (stalls.seconds(), stalls.problems()) == ({"mine": 0}, [])
    await pass_time(harness, BOUND + 2 * INTERVAL)
    assert len(told) == 2
    while harness.dispatch.pending()["mine"]:
        for each in hanging.running:
            if not each.called:
                each.callback(None)
        await harness.quiet()
    await pass_time(harness, 2 * BOUND)
    assert (stalls.seconds(), len(told)) == ({"mine": 0}, 2)


@pytest_twisted.ensureDeferred
async def test_handlers_with_a_limit_have_their_time_before_they_count_as_stuck(watched: Open) -> None:
    @on("*", timeout=4 * BOUND, concurrency=1)
    def slow(event: object) -> Deferred[None]:
        return Deferred()

    harness, stalls, _ = watched(mine=slow, retry_for=0)
    for number in range(3):
        await harness.take(f"octo/r{number}")
    assert stalls.seconds() == {"mine": 0}
    await pass_time(harness, 4 * BOUND - INTERVAL)
    assert stalls.seconds()["mine"] == 4 * BOUND - INTERVAL
    assert stalls.problems() == []


class Faulty(SQLiteJournal):
    """A journal that cannot say what is due, for reasons of its own, as often as ``faults`` says."""

    faults = 0

    async def due_groups(self, subscriber: str, *, now: float) -> list[str]:
        if self.faults:
            self.faults -= 1
            raise MemoryError
        return await super().due_groups(subscriber, now=now)


@pytest_twisted.ensureDeferred
async def test_a_retry_that_was_lost_on_its_way_from_the_journal_is_found_again(watched: Open) -> None:
    calls: list[object] = []

    @on("*")
    def once(event: object) -> None:
        calls.append(event)
        if len(calls) == 1:
            raise ValueError("not yet")

    harness, stalls, _ = watched(mine=once, journal=Faulty)
    await harness.take()
    await harness.until(lambda: bool(harness.outcomes("failed")))
    journal: Any = harness.journal
    journal.faults = 1
    await harness.pass_time(1)  # the retry is due, and cannot be read
    assert (journal.faults, len(calls)) == (0, 1)
    assert harness.dispatch.pending() == {"mine": 1}
    await pass_time(harness, WAKE_AFTER - INTERVAL)
    assert stalls.seconds()["mine"] > 0
    await pass_time(harness, 3 * INTERVAL)
    await harness.until(lambda: bool(harness.outcomes("handled")))
    assert stalls.seconds() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_a_retry_that_waits_for_its_time_is_not_due(watched: Open) -> None:
    @on("*")
    def fails(event: object) -> None:
        raise ValueError("never")

    harness, stalls, _ = watched(mine=fails, retry_for=100 * TIMEOUT)
    await harness.take()
    for _ in range(10):
        await pass_time(harness, 10 * INTERVAL)
        assert stalls.seconds() == {"mine": 0}
