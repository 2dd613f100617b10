"""A rolling upgrade under load: old nodes beside new ones, and one that is too old for the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from fleet_load import Load, StartFleet
from twisted.internet.defer import Deferred

from stackit.testing import StackitFailed

REPOS = [f"octo/widget-{number}" for number in range(12)]

NEXT_VERSION = """
from types import MappingProxyType

from stackit.journal.postgres import schema

schema.STEPS = MappingProxyType({**schema.STEPS, schema.VERSION: ("ALTER TABLE nodes ADD COLUMN remark text",)})
schema.VERSION += 1
"""
"""Python runs it before anything else: a stackit whose tables have one more column."""


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    directory = tmp_path / "next"
    directory.mkdir()
    (directory / "sitecustomize.py").write_text(NEXT_VERSION)
    return directory


@pytest_twisted.ensureDeferred
async def test_nodes_are_upgraded_one_by_one_under_load(
    start_fleet: StartFleet, load: Load, next_version: Path
) -> None:
    fleet = await start_fleet(fleet={"lease": "60s"})
    (before,) = await fleet.query("SELECT schema FROM version")
    sending = Deferred.fromCoroutine(load.send(fleet, REPOS, 10_000, pause=0.1, takes=0.02))
    for name in list(fleet.nodes):
        assert await fleet[name].stop() == 0
        await fleet.add(name, plugins=next_version).start()
        await fleet.settled()

    async def all_at_work() -> bool:
        return {node.pid for node in fleet.nodes.values()} <= {note.pid for note in load.notes()}

    await fleet.until(all_at_work, "each new node to handle something")
    load.is_enough = True
    await sending
    await load.all_done(fleet)
    load.check()
    assert load.twice() == set()
    assert await fleet.query("SELECT schema FROM version") == [(before[0] + 1,)]

    # The next release drops what the old one needs, and says so in the tables.
    await fleet.query("UPDATE version SET oldest = schema RETURNING oldest")
    with pytest.raises(StackitFailed, match="this stackit is too old for its fleet") as refused:
        await fleet.add("d").start()
    lines = [line for line in str(refused.value).splitlines() if "too old" in line]
    assert len(lines) == 1
    assert "Traceback" not in str(refused.value)
