"""What a node of a fleet answers that is out of it: for those who show it to people."""

from __future__ import annotations

from typing import Any

from stackit.fleet.answers import DatabaseState, FleetAnswer, ShownNode, ShownState

OUT = "this node is out of the fleet: its lease was over"


def fleet_node(name: str, state: ShownState, **changes: Any) -> ShownNode:
    """Return a node that handles, unless something else is said."""
    values = {"here": False, "leader": False, "away_for": 0.0, "handlers": 8, "mirrors": 0, "homes": 0, **changes}
    return ShownNode(
        name=name,
        state=state,
        address=f"https://{name}.example",
        version="9.8.7",
        roles=("receive", "handle"),
        incarnation=1,
        since="2026-11-21T18:43:29.123Z",
        **values,
    )


def out_of_the_fleet() -> FleetAnswer:
    """Return the answer of ``a``, which is out: ``b`` is up, ``c`` drains and ``d`` is away."""
    return FleetAnswer(
        node="a",
        shards=16,
        unowned={"handlers": 0, "mirrors": 1},
        lease_left=0.0,
        clock_ahead=0.0,
        nodes=[
            fleet_node("a", "out", here=True, handlers=0, homes=3),
            fleet_node("b", "up", leader=True),
            fleet_node("c", "draining"),
            fleet_node("d", "away", away_for=61.4),
        ],
        database=DatabaseState("15.4", 2**20, 1, None),
        problems=[OUT],
    )
