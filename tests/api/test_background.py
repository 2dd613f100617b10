"""Work in the background, and its end."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stackit.api.background import Background
from stackit.api.reactor import sleep


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_what_runs_and_returns_when_it_is_over() -> None:
    background, clock, cleared_up = Background(), Clock(), Deferred[None]()
    told: list[str] = []

    async def work() -> None:
        try:
            await sleep(clock, 60)
        finally:
            await cleared_up
            told.append("over")

    over = background.run(work())
    stopping = Deferred.fromCoroutine(background.stop())
    assert not stopping.called
    cleared_up.callback(None)
    await stopping
    await over
    assert told == ["over"]


@pytest_twisted.ensureDeferred
async def test_what_failed_says_so_and_is_no_matter_of_a_stop() -> None:
    background = Background()

    async def work() -> None:
        raise ValueError("broken")

    over = background.run(work())
    with pytest.raises(ValueError, match="broken"):
        await over
    await background.stop()
