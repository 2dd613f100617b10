"""The routes of the fleet on the admin side: its nodes, its work, its database, and who is to give work away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, error
from stackit.api.errors import JournalError, StackitError
from stackit.api.nodes import Node
from stackit.fleet.answers import DatabaseState, Draining, FleetAnswer, ShownNode, ShownState, fleet_route
from stackit.fleet.fleet import Fleet
from stackit.fleet.view import drain_warning
from stackit.journal.postgres.ownership import LEADER, row_of
from stackit.text.times import rfc3339


def fleet_routes(
    fleet: Fleet, database: Callable[[], DatabaseState | None], journal_problems: Callable[[], list[str]]
) -> list[Route]:
    """Return the routes.

    ``database`` returns the state of the database, None while it is not known; ``journal_problems`` what is wrong with
    the journal in it: a node may renew its lease there, and write nothing else.
    """

    def show(_request: AdminRequest) -> Response:
        seen = overview(fleet, database())
        return Response(body=msgspec.structs.replace(seen, problems=[*journal_problems(), *seen.problems]))

    async def drain(request: AdminRequest) -> Response:
        return await change(request.args["node"], back=False)

    async def undrain(request: AdminRequest) -> Response:
        return await change(request.args["node"], back=True)

    async def change(name: str, *, back: bool) -> Response:
        try:
            kept = await fleet.drain(name, back=back)
        except JournalError as problem:
            return error(503, str(problem))
        except StackitError as problem:
            return error(404, str(problem))
        return Response(status=202, body=Draining(name, not back, drain_warning(kept)))

    return [
        fleet_route(show),
        Route(
            "POST",
            "{prefix}/fleet/nodes/{node}/drain",
            drain,
            query=(),
            summary="Have a node give its work and its mirrors to others, and take no more.",
            returns=Draining,
            status=202,
        ),
        Route(
            "POST",
            "{prefix}/fleet/nodes/{node}/undrain",
            undrain,
            query=(),
            summary="Have a node that was drained take its part of the work again.",
            returns=Draining,
            status=202,
        ),
    ]


def overview(fleet: Fleet, database: DatabaseState | None) -> FleetAnswer:
    """Return what is known of the fleet."""
    owned: dict[str, Counter[str]] = {"e": Counter(), "m": Counter()}
    homes: Counter[str] = Counter()
    free = Counter({"e": 0, "m": 0})
    leader = ""
    out = fleet.here if fleet.incarnation is None else None  # it owns nothing, and knows not who does
    for shard, row in fleet.view.shards.items():
        owner = fleet.view.owner(row)
        letter, _ = row_of(shard)
        if row.home is not None:
            homes[row.home] += 1
        if owner is not None and owner.name == out:
            continue
        if shard == LEADER:
            leader = "" if owner is None else owner.name
        elif owner is None:
            free[letter] += 1
        else:
            owned[letter][owner.name] += 1
    return FleetAnswer(
        node=fleet.here,
        shards=fleet.ownership.shards,
        unowned={"handlers": 0 if out else free["e"], "mirrors": 0 if out else free["m"]},
        lease_left=round(fleet.lease_left(), 3),
        clock_ahead=round(fleet.clock.ahead(), 3),
        nodes=[
            _shown(
                node,
                "out" if node.name == out else node.state,
                here=node.name == fleet.here,
                leader=node.name == leader,
                handlers=owned["e"][node.name],
                mirrors=owned["m"][node.name],
                homes=homes[node.name],
            )
            for node in fleet.nodes()
        ],
        database=database,
        problems=[*fleet.problems(), *fleet.clock.problems()],
    )


def _shown(
    node: Node, state: ShownState, *, here: bool, leader: bool, handlers: int, mirrors: int, homes: int
) -> ShownNode:
    return ShownNode(
        name=node.name,
        state=state,
        here=here,
        leader=leader,
        address=node.address,
        version=node.version,
        roles=node.roles,
        incarnation=node.incarnation,
        since=rfc3339(node.since),
        away_for=round(node.away_for, 3),
        handlers=handlers,
        mirrors=mirrors,
        homes=homes,
    )
