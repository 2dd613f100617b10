"""A node of a fleet under test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from waiting import until

from stackit.testing import RunningFleet


@pytest_twisted.ensureDeferred
async def test_a_node_whose_database_does_not_answer_in_time_is_started_once_more(
    postgres: str, tmp_path: Path
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    fleet = RunningFleet(clock, tmp_path, postgres, nodes=["a"])
    node = fleet["a"]
    try:
        node.cut()
        starting = Deferred.fromCoroutine(node.start())
        await until(lambda: "connection timeout expired" in node.log or starting.called, "the first start to end")
        node.heal()
        await starting
        assert node.is_running
    finally:
        await fleet.stop()
