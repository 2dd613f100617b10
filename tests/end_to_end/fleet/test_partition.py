"""A node that is cut off from the database stops before anybody takes its work, and comes back by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
import pytest_twisted
from fleet_load import Load, StartFleet
from namespace_wire import Wire, can_make_namespaces
from twisted.internet.defer import Deferred

from stackit.api.reactor import Reactor
from stackit.testing import PostgresServer
from stackit.testing.relay import Relay

Way = Callable[[Reactor, int], Relay]
REPOS = [f"octo/widget-{number}" for number in range(12)]


def silent(_server: PostgresServer) -> Way:
    """A way on which what is sent while it is cut arrives late."""
    return Relay


def lossy(server: PostgresServer) -> Way:
    """A way on which it is lost; where that takes rights that these tests have not, one on which it arrives late."""
    return partial(Wire, directory=server.directory) if can_make_namespaces() else Relay


@pytest.mark.parametrize("way", [silent, lossy])
@pytest_twisted.ensureDeferred
async def test_a_node_that_is_cut_off_stops_before_others_take_its_work(
    start_fleet: StartFleet, load: Load, postgres_server: PostgresServer, way: Callable[[PostgresServer], Way]
) -> None:
    fleet = await start_fleet(way=way(postgres_server))
    lonely = fleet["b"]
    sending = Deferred.fromCoroutine(load.send(fleet, REPOS, 3, takes=1.0))

    async def is_at_work() -> bool:
        last = {note.guid: note for note in load.notes()}
        return any(note.what == "start" and note.pid == lonely.pid for note in last.values())

    await fleet.until(is_at_work, "the node to handle something")
    lonely.cut()
    cut_at = time.monotonic()

    async def is_red() -> bool:
        return (await lonely.ask("GET", f"{lonely.url}/healthz")).status == 503

    await fleet.until(is_red, "the node to tell load balancers that it takes nothing")

    async def gone_on() -> bool:
        notes = load.notes()
        mine = {note.guid for note in notes if note.pid == lonely.pid and note.what == "start"}
        return any(note.guid in mine and note.at > cut_at for note in notes if note.pid != lonely.pid)

    await fleet.until(gone_on, "the others to take what it had begun")
    await sending
    await load.all_done(fleet)
    load.check()
    # What was done while it was cut off, and could not be said, is done again; nothing else is.
    assert load.twice() <= {note.guid for note in load.notes() if note.pid == lonely.pid}

    lonely.heal()
    await fleet.settled()
    await load.send(fleet, REPOS, 2)
    await load.all_done(fleet)
    load.check()

    async def is_green() -> bool:
        return (await lonely.ask("GET", f"{lonely.url}/healthz")).status == 200

    await fleet.until(is_green, "the node to tell load balancers that it takes deliveries")
