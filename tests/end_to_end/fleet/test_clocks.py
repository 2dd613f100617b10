"""Nodes whose clocks are wrong by hours: nothing waits for them, and each says so of its own."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_twisted
from fleet_load import Load
from wrong_clock import WrongClock

from stackit.testing import FleetNode, RunningFleet

StartFleet = Callable[..., Awaitable[RunningFleet]]
REPOS = [f"octo/widget-{number}" for number in range(12)]
HOURS = 3 * 3600.0
AGAIN = "the clock of this machine agrees with that of the fleet's database again"


async def problems(node: FleetNode) -> list[str]:
    """What its ``/readyz`` says of its clock."""
    answer = (await node.ask("GET", f"{node.admin_url}/readyz")).json()
    return [each for each in answer.get("problems", []) if "the clock of this machine" in each]


async def first_tries(fleet: RunningFleet, load: Load) -> None:
    """Wait until every delivery has failed, and that is written down."""

    async def have_failed() -> bool:
        ((number,),) = await fleet.query("SELECT count(*) FROM work WHERE attempts > 0")
        return bool(number == len(load.sent))

    await fleet.until(have_failed, "every delivery to fail once")


@pytest.mark.parametrize(("ahead", "dies"), [(HOURS, "wrong"), (-HOURS, "right")])
@pytest_twisted.ensureDeferred
async def test_retries_wait_no_longer_than_planned_whoever_has_a_wrong_clock_and_dies(
    start_fleet: StartFleet, load: Load, tmp_path: Path, ahead: float, dies: str
) -> None:
    clock = WrongClock(tmp_path / "clock", ahead)
    fleet = await start_fleet(nodes=["right"])
    wrong = fleet.add("wrong", plugins=clock.plugins, environment={**load.environment, **clock.environment})
    await wrong.start()
    await fleet.settled()
    side = "ahead of" if ahead > 0 else "behind"
    (line,) = await problems(wrong)
    told = re.match(r"the clock of this machine is (\d+) seconds (.+) that of the fleet's database: ", line)
    assert told is not None, line
    assert told[2] == side
    assert abs(int(told[1]) - HOURS) <= 5  # measured through an answer, which takes its time on a busy machine
    assert await problems(fleet["right"]) == []
    # What it has another node do is not refused for its clock: the one that was there first leads.
    added = await wrong.admin("POST", "{prefix}/repos", b'{"name": "octo/late", "url": "http://127.0.0.1:1/late.git"}')
    assert added.status == 201, added.body
    load.failing.touch()
    await load.send(fleet, REPOS, 1)
    await first_tries(fleet, load)
    planned = await fleet.query(
        "SELECT name, min(next_at - now.at), max(next_at - now.at)"
        " FROM work JOIN shards USING (space, shard) JOIN nodes ON incarnation = owner,"
        " (SELECT extract(epoch FROM clock_timestamp())::float8 AS at) AS now GROUP BY name"
    )
    assert {name for name, _, _ in planned} == {"right", "wrong"}
    for _, nearest, furthest in planned:
        assert -HOURS / 2 < nearest <= furthest < HOURS / 2  # seconds or minutes, by the clock of all
    ((apart,),) = await fleet.query(
        "SELECT max(abs(received_at - extract(epoch FROM clock_timestamp())::float8)) FROM events"
    )
    assert apart < HOURS / 2
    await fleet[dies].kill()
    load.failing.unlink()
    await load.all_done(fleet)
    (left,) = {"right", "wrong"} - {dies}
    for sent in load.sent:
        (handling,) = (await fleet[left].wait_for(sent.guid))["handlings"]
        assert handling["attempts"] >= 2
    clock.set(0.0)

    async def is_right() -> bool:
        return await problems(fleet[left]) == [] and (dies == "wrong" or AGAIN in wrong.log)

    await fleet.until(is_right, "the node to say that its clock is right")
