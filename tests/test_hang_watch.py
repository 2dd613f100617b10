"""A test that hangs is named in the output of a run, with the places at which it waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest_twisted
from hang_watch import HangWatch
from twisted.internet.defer import Deferred
from waiting import until


@pytest_twisted.ensureDeferred
async def test_a_test_that_takes_long_is_told_once_with_what_it_waits_for(tmp_path: Path) -> None:
    told = tmp_path / "told"

    def text() -> str:
        return told.read_text()

    async def waits() -> None:
        await hanging

    hanging: Deferred[None] = Deferred()
    waiting = Deferred.fromCoroutine(waits())
    output = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    watch = HangWatch(output, patience=0.05, look=0.01)
    os.close(output)
    try:
        watch.begin("tests/test_some.py::test_that_hangs")
        await until(lambda: "most recent call first" in text(), "the watch to tell")
        watch.end()
        watch.begin("tests/test_some.py::test_next")
        await until(lambda: "test_next" in text(), "the watch to tell of the next one")
    finally:
        watch.close()
        hanging.callback(None)
        await waiting
    assert text().count("tests/test_some.py::test_that_hangs has not ended after 0.05 s") == 1
    assert f"{__file__}:{waits.__code__.co_firstlineno + 1} waits" in text()
