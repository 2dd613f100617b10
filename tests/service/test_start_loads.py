"""What the journal keeps of the last process, read at the start, and again once the journal answers."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

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
    loads.load(load)
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
async def test_a_stop_waits_for_no_journal_that_does_not_answer() -> None:
    clock, asked, calls = Clock(), list[Deferred[Any]](), list[str]()

    def ask() -> Deferred[Any]:
        asked.append(Deferred())
        return asked[-1]

    def load() -> None:
        calls.append("load")
        raise JournalError("the journal cannot read it: database is locked")

    loads = StartLoads(clock, ask, at_once=False)
    loads.load(load)
    clock.advance(1.0)
    await loads.stop()
    loads.try_again()
    clock.advance(5.0)
    assert (len(asked), calls) == (1, ["load"])
    assert not clock.getDelayedCalls()
