"""Whether threads live and move."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import pytest_twisted
from outcomes import outcome
from twisted.internet.task import Clock, deferLater

from stackit.journal.sqlite import SQLiteJournal
from stackit.runtime.heartbeat import BOUND, INTERVAL, Heartbeat


class Worker:
    """A thread in so far as it is asked for signs of life."""

    def __init__(self) -> None:
        self.lives = True
        self.steps = 0
        self.asked: list[Callable[[object], object]] = []

    def beat(self, done: Callable[[object], object]) -> None:
        self.asked.append(done)

    def answer(self) -> None:
        asked, self.asked = self.asked, []
        for each in asked:
            each(None)


class Harness:
    def __init__(self) -> None:
        self.clock = Clock()
        self.worker = Worker()
        self.heartbeat = Heartbeat(reactor=self.clock, threads={"the worker": self.worker}, clock=self.clock.seconds)
        self.heartbeat.startService()

    def pass_time(self, seconds: float) -> None:
        self.clock.pump([INTERVAL / 4] * int(seconds / INTERVAL * 4))


@pytest.fixture
def harness() -> Iterator[Harness]:
    made = Harness()
    yield made
    made.heartbeat.stopService()
    assert made.clock.getDelayedCalls() == []


def test_a_thread_that_answers_is_well_for_ever(harness: Harness) -> None:
    for _ in range(20):
        harness.worker.answer()
        harness.pass_time(INTERVAL)
        assert harness.heartbeat.stuck() == []


def test_one_that_does_nothing_more_is_named_after_a_while_and_well_again_when_it_moves(harness: Harness) -> None:
    harness.pass_time(BOUND)
    assert harness.heartbeat.stuck() == []
    harness.pass_time(INTERVAL)
    (problem,) = harness.heartbeat.stuck()
    assert problem.startswith("the worker has not moved for")
    assert len(harness.worker.asked) == 1  # no second beat behind one that waits
    harness.worker.answer()
    assert harness.heartbeat.stuck() == []


def test_one_that_is_busy_for_long_but_moves_is_well(harness: Harness) -> None:
    for _ in range(20):
        harness.pass_time(BOUND - 1)
        harness.worker.steps += 1
        assert harness.heartbeat.stuck() == []
    harness.pass_time(BOUND + INTERVAL)
    assert len(harness.heartbeat.stuck()) == 1


def test_one_that_has_ended_is_named_at_once(harness: Harness) -> None:
    harness.worker.lives = False
    assert harness.heartbeat.stuck() == ["the worker has ended: restart stackit"]


def test_timers_that_never_come_are_named_though_all_else_goes_on() -> None:
    reactor, clock = Clock(), Clock()
    heartbeat = Heartbeat(reactor=reactor, threads={}, clock=clock.seconds)
    heartbeat.startService()
    clock.advance(BOUND + INTERVAL + 1)
    assert heartbeat.stuck() == ["the reactor's timers have not moved for 31 seconds"]
    reactor.advance(INTERVAL)
    assert heartbeat.stuck() == []
    heartbeat.stopService()
    clock.advance(9 * BOUND)
    assert heartbeat.stuck() == []


@pytest.mark.parametrize("name", ["the journal's writer", "the journal's reader"])
@pytest_twisted.ensureDeferred
async def test_the_threads_of_the_journal_answer_in_their_turn_and_show_when_they_hang(
    tmp_path: Path, name: str
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor)
    threads = journal.threads()
    thread: Any = threads[name]
    clock = Clock()
    heartbeat = Heartbeat(reactor=clock, threads=threads, clock=clock.seconds)
    heartbeat.startService()
    for each in threads.values():
        await outcome(each.beat)
    begun, go_on = Event(), Event()

    def hang(_: sqlite3.Connection) -> bool:
        begun.set()
        return go_on.wait(20)

    hanging = thread.submit(hang) if hasattr(thread, "submit") else thread.ask(hang)
    while not begun.is_set():
        await deferLater(reactor, 0.01)
    clock.pump([INTERVAL] * int(BOUND / INTERVAL + 2))
    others = [each for each in threads.values() if each is not thread]
    for each in others:
        await outcome(each.beat)
    problems = heartbeat.stuck()
    assert len(problems) == 1
    assert problems[0].startswith(f"{name} has not moved")
    go_on.set()
    await hanging
    await outcome(thread.beat)
    assert heartbeat.stuck() == []
    heartbeat.stopService()
    await journal.close()
    assert not thread.lives


@pytest_twisted.ensureDeferred
async def test_a_beat_alone_costs_no_commit(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    journal = SQLiteJournal.open(tmp_path / "state", reactor=reactor)
    statements: list[str] = []
    connection = journal._writer._committer.connection
    assert connection is not None
    connection.set_trace_callback(statements.append)
    for _ in range(5):
        await outcome(journal._writer.beat)
    assert statements == []
    await journal.close()
