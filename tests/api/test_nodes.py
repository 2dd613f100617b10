"""The nodes of a fleet, where there is no fleet."""

from __future__ import annotations

import pytest_twisted

from stackit import Repo
from stackit.api.nodes import Alone, Nodes

REPO = Repo("octo", "widget")


@pytest_twisted.ensureDeferred
async def test_without_a_fleet_everything_is_here() -> None:
    calls: list[object] = []
    nodes: Nodes = Alone()
    nodes.when_changed(lambda: calls.append(None))
    nodes.when_arriving(calls.append)
    assert nodes.is_here(REPO)
    assert nodes.leads()
    home = nodes.home(REPO)
    assert home is not None
    assert home.name == nodes.here
    assert list(nodes.nodes()) == [home]
    assert not nodes.copies(REPO)
    assert not nodes.arriving()
    nodes.prepared([nodes.shard(REPO)])
    assert [await nodes.round("retention", 60) for _ in range(2)] == [True, True]
    assert not calls
