"""Documents that are written a little after they change, whatever a write raises."""

from __future__ import annotations

from collections.abc import Collection

import pytest_twisted
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from stackit import StackitError
from stackit.plugins.mirror.fleet.late_writes import LateWrites


@pytest_twisted.ensureDeferred
async def test_a_write_that_fails_by_a_fault_is_logged_and_later_ones_go_on(logged_failures: list[LogEvent]) -> None:
    clock, written = Clock(), list[str]()
    faults: list[Exception] = [ValueError("not JSON-able"), StackitError("the disk is full")]

    async def write(keys: Collection[str]) -> None:
        if faults:
            raise faults.pop(0)
        written.extend(keys)

    late = LateWrites(clock, write, again=5.0)
    late.note("octo/widget", 1.0)
    clock.advance(1.0)
    (fault,) = logged_failures
    logged_failures.clear()
    assert "not JSON-able" in str(fault["log_failure"].value)
    assert not late.is_waiting("octo/widget")
    late.note("octo/gadget", 1.0)
    clock.advance(1.0)
    assert (written, late.is_waiting("octo/gadget")) == ([], True)
    clock.advance(5.0)
    assert (written, late.is_waiting("octo/gadget")) == (["octo/gadget"], False)
    late.note("octo/widget", 1.0)
    await late.stop()
    assert written == ["octo/gadget", "octo/widget"]
