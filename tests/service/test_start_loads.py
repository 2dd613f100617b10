"""What the journal keeps of the last process, read at the start, and again once the journal answers."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

from stackit.api.errors import JournalError
from stackit.service.start_loads import StartLoads


@pytest_twisted.ensureDeferred
async def test_what_blocks_is_called_again_only_when_the_journal_has_answered() -> None:
    clock, asked, calls = Clock(), list[Deferred[Any]](), list[int]()

    def ask() -> Deferred[Any]:
        asked.append(Deferred())
        return asked[-1]

    def load() -> None:
        calls.append(len(asked))
        if len(calls) < 3:
            raise JournalError("the journal cannot read it: database is locked")

    loads = StartLoads(clock, ask, at_once=False)
    loads.load("the audit", load)
    for _ in range(5):  # nothing blocks while it stands still
        clock.advance(1.0)
    assert (len(asked), calls) == (1, [0])
    asked[0].errback(JournalError("the journal cannot read it: database is locked"))
    clock.advance(1.0)
    assert (len(asked), calls) == (2, [0])
    asked[1].callback({})
    assert calls == [0, 2]
    clock.advance(1.0)
    asked[2].callback({})
    assert calls == [0, 2, 3]
    clock.advance(5.0)
    assert not clock.getDelayedCalls()
    await loads.stop()


@pytest_twisted.ensureDeferred
async def test_a_fault_in_one_keeps_no_other_from_being_read(logged_failures: list[LogEvent]) -> None:
    clock, read = Clock(), list[str]()
    is_locked = True

    def load(what: str) -> None:
        if is_locked:
            raise JournalError("the journal cannot read it: database is locked")
        if what == "the audit":
            raise ZeroDivisionError
        read.append(what)

    loads = StartLoads(clock, lambda: succeed(None), at_once=False)
    for what in ("the sessions", "the audit", "the last hour", "the pauses"):
        loads.load(what, partial(load, what))
    assert read == []
    is_locked = False
    loads.try_again()
    assert read == ["the sessions", "the last hour", "the pauses"]
    (logged,) = logged_failures
    assert logged["log_failure"].check(ZeroDivisionError)
    assert formatEvent(logged) == "the audit of the last process cannot be read: a fault of stackit's own"
    logged_failures.clear()
    clock.advance(5.0)
    assert not clock.getDelayedCalls()
    await loads.stop()


@pytest_twisted.ensureDeferred
async def test_a_fault_in_the_first_call_fails_the_start() -> None:
    def load() -> None:
        raise ZeroDivisionError

    loads = StartLoads(Clock(), lambda: succeed(None), at_once=False)
    with pytest.raises(ZeroDivisionError):
        loads.load("the audit", load)
    await loads.stop()


@pytest_twisted.ensureDeferred
async def test_a_stop_waits_for_no_journal_that_does_not_answer() -> None:
    clock, asked, calls = Clock(), list[Deferred[Any]](), list[str]()

    def ask() -> Deferred[Any]:
        asked.append(Deferred())
        return asked[-1]

    def load() -> None:
        calls.append("load")
        raise JournalError("the journal cannot read it: database is locked")

    loads = StartLoads(clock, ask, at_once=False)
    loads.load("the audit", load)
    clock.advance(1.0)
    await loads.stop()
    loads.try_again()
    clock.advance(5.0)
    assert (len(asked), calls) == (1, ["load"])
    assert not clock.getDelayedCalls()
