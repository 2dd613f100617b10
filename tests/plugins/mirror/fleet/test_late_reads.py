"""Documents that other nodes change: none is missed, whatever a reading raises."""

from __future__ import annotations

from collections.abc import Callable, Collection

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from stackit import StackitError
from stackit.plugins.mirror.fleet.late_reads import LateReads


class Journal:
    """Answers questions one by one, when it is told to."""

    def __init__(self) -> None:
        self.asked: list[set[str] | None] = []
        self.answers: list[Deferred[None]] = []

    async def read(self, keys: Collection[str] | None) -> None:
        self.asked.append(None if keys is None else set(keys))
        self.answers.append(Deferred())
        await self.answers[-1]

    def answer(self) -> None:
        self.answers[-1].callback(None)

    def fail(self, problem: Callable[[str], Exception]) -> None:
        self.answers[-1].errback(problem("away"))


def test_what_changes_during_a_reading_is_read_after_it_together() -> None:
    journal = Journal()
    late = LateReads(Clock(), journal.read, again=5.0)
    late.note({"octo/widget"})
    late.note({"octo/gadget"})
    late.note({"octo/widget"})
    assert journal.asked == [{"octo/widget"}]
    journal.answer()
    assert journal.asked == [{"octo/widget"}, {"octo/gadget", "octo/widget"}]
    late.note({"octo/widget"})
    late.note(None)
    late.note({"octo/gadget"})
    journal.answer()
    assert journal.asked[2:] == [None]
    journal.answer()
    assert len(journal.asked) == 3
    late.note({"octo/widget"})
    assert journal.asked[3:] == [{"octo/widget"}]


def test_what_could_not_be_read_is_read_again_with_what_changed_meanwhile() -> None:
    clock, journal = Clock(), Journal()
    late = LateReads(clock, journal.read, again=5.0)
    late.note({"octo/widget"})
    journal.fail(StackitError)
    late.note({"octo/gadget"})
    clock.advance(4.9)
    assert len(journal.asked) == 1
    clock.advance(0.1)
    assert journal.asked[1:] == [{"octo/gadget", "octo/widget"}]


def test_a_reading_that_fails_by_a_fault_is_logged_and_later_ones_go_on(logged_failures: list[LogEvent]) -> None:
    journal = Journal()
    late = LateReads(Clock(), journal.read, again=5.0)
    late.note({"octo/widget"})
    late.note({"octo/gizmo"})
    journal.fail(ValueError)
    (fault,) = logged_failures
    logged_failures.clear()
    assert isinstance(fault["log_failure"].value, ValueError)
    assert journal.asked[1:] == [{"octo/gizmo"}]
    journal.answer()
    late.note({"octo/gadget"})
    assert journal.asked[2:] == [{"octo/gadget"}]


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_a_reading_and_the_pause_after_one(logged_failures: list[LogEvent]) -> None:
    for fails in (False, True):
        clock, journal = Clock(), Journal()
        late = LateReads(clock, journal.read, again=5.0)
        late.note({"octo/widget"})
        if fails:
            journal.fail(StackitError)
        await late.stop()
        late.note({"octo/gadget"})
        assert (len(journal.asked), clock.getDelayedCalls()) == (1, [])
    assert logged_failures == []
