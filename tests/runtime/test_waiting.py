"""The waits of a stop."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from log_capture import lines_logged
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit.runtime.waiting import FIRST_LINE, NEXT_LINE, StopWaits


class Harness:
    """A stop that waits for two things."""

    def __init__(self, lines: list[str]) -> None:
        self.clock = Clock()
        self.waits = StopWaits(self.clock)
        self.left = ["a handler", "a request"]
        self.cancelled: list[Deferred[None]] = []
        self.ending: list[Deferred[None]] = [Deferred(self.cancelled.append) for _ in self.left]
        self.lines = lines

    def wait(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.waits.wait(self.ending, lambda: self.left, within=10))


@pytest.fixture
def harness() -> Iterator[Harness]:
    with lines_logged() as lines:
        made = Harness(lines)
        yield made
    assert made.clock.getDelayedCalls() == []


def line(what: str, seconds: int) -> str:
    return f"stopping: waits for {what}, up to {seconds} s; another SIGTERM or SIGINT (Ctrl-C) ends the wait"


def test_what_is_waited_for_is_said_and_said_again(harness: Harness) -> None:
    over = harness.wait()
    assert harness.lines == []
    harness.clock.advance(FIRST_LINE)
    assert harness.lines == [line("a handler, a request", 10)]
    harness.left.remove("a handler")
    harness.ending[0].callback(None)
    harness.clock.advance(NEXT_LINE)
    assert harness.lines[1:] == [line("a request", 5)]
    harness.ending[1].callback(None)
    assert over.called


def test_what_takes_a_moment_is_not_worth_a_line(harness: Harness) -> None:
    over = harness.wait()
    harness.clock.advance(FIRST_LINE / 2)
    for each in harness.ending:
        each.callback(None)
    assert over.called
    assert harness.lines == []


def test_nothing_to_wait_for_is_no_wait(harness: Harness) -> None:
    harness.ending = []
    assert harness.wait().called


def test_somebody_who_hurries_ends_the_wait_and_not_the_next_one(harness: Harness) -> None:
    over = harness.wait()
    harness.waits.hurry()
    assert over.called
    assert harness.waits.hurried
    assert harness.cancelled == harness.ending
    assert harness.lines == ["stopping: another signal came, what still runs is ended now"]
    harness.ending = [Deferred()]
    over = harness.wait()
    assert not over.called
    harness.ending[0].callback(None)
    assert over.called


def test_a_hurry_between_two_waits_is_noted(harness: Harness) -> None:
    harness.waits.hurry()
    assert harness.waits.hurried
    assert harness.lines == []
