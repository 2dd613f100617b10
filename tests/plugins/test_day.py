"""A whole stackit on a simulated clock: what a busy hour needed is given back."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from simulated_day import KEPT, RETRIED, Day

pytestmark = pytest.mark.usefixtures("kept_signals")


@pytest_twisted.ensureDeferred
async def test_nothing_grows(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    day = Day(reactor, tmp_path, repositories=4)
    await day.start()
    left = []
    for _ in range(3):
        await day.pass_hour()
        # What is retried comes to its end, and what is done is forgotten.
        await day.clock.pass_time(KEPT + 2 * RETRIED)
        left.append(day.figures())
    assert await day.equal()
    await day.stop()
    assert day.clock.getDelayedCalls() == []
    assert day.statuses.keys() == {200, 202, 204, 401}

    _, second, third = left  # the first hour also filled what has a bound, such as the journal's log
    assert third.pop("journal, KiB") <= 1.1 * second.pop("journal, KiB")
    # A remote that was asked last keeps its connection for some minutes.
    assert third.pop("descriptors") <= second.pop("descriptors") + 2
    assert third == second
    assert (third["queues"], third["journal, events"], third["rate limiter"]) == (0, 0, 1)
