"""A test that hangs is named in the output of a run, with the places at which it waits."""

from __future__ import annotations

import pytest
import pytest_twisted
from hang_watch import HangWatch
from twisted.internet.defer import Deferred
from waiting import until


@pytest_twisted.ensureDeferred
async def test_a_test_that_takes_long_is_told_once_with_what_it_waits_for(capfd: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    def text() -> str:
        said.append(capfd.readouterr().err)
        return "".join(said)

    async def waits() -> None:
        await hanging

    hanging: Deferred[None] = Deferred()
    waiting = Deferred.fromCoroutine(waits())
    watch = HangWatch(patience=0.05, look=0.01)
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
