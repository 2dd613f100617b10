"""A handler that holds up its node for longer than the lease: no other node is held up by the same event."""

from __future__ import annotations

import pytest_twisted
from fleet_load import Load, Note, StartFleet
from twisted.internet.defer import Deferred

from stackit.journal.packing import unpacked
from stackit.testing import payload_for

REPOS = [f"octo/widget-{number}" for number in range(12)]


@pytest_twisted.ensureDeferred
async def test_an_event_that_holds_a_node_up_for_its_lease_is_given_up(start_fleet: StartFleet, load: Load) -> None:
    fleet = await start_fleet(fleet={"lease": "4s"})
    sending = Deferred.fromCoroutine(load.send(fleet, REPOS, 40, takes=0.02))
    # Its sender is answered at the end of that, and must not have given up: sent again, a dead letter is handled anew.
    # GitHub's ten seconds are few for that on a busy machine.
    poison = {**payload_for("issues", "opened", "octo/poison"), "asked": {"blocks": 2 * 4.0}}
    assert (await fleet["a"].deliver("issues", poison, guid="poison")).status == 202

    async def begun() -> Note | None:
        return next((note for note in load.notes() if note.guid == "poison"), None)

    poisoned = await fleet.until(begun, "the handler to begin")
    held_up = poisoned.pid
    # What else it had in hand is begun at another node. Its own 202 may have come only after that.
    load.stopped(held_up, poisoned.at)
    after = {**payload_for("issues", "opened", "octo/poison"), "asked": {}}
    await fleet.deliver("issues", after, guid="after")
    node = next(node for node in fleet.nodes.values() if node.pid == held_up)
    others = next(each for each in fleet.nodes.values() if each is not node)
    receipt = await others.wait_for("poison", "dead")
    (handling,) = receipt["handlings"]
    assert handling["error"] == (
        f"it held up node {node.name} for the lease of 4 s: a function that waits needs thread=True"
    )
    await others.wait_for("after")
    await sending
    await load.all_done(fleet)
    await fleet.settled()
    load.check()
    assert {note.pid for note in load.notes() if note.guid == "poison"} == {held_up}

    async def said() -> bool:
        return "held this node up for its lease of 4 s" in node.log

    await fleet.until(said, "a line about it")
    ((where,),) = await fleet.query("SELECT traceback FROM outcomes WHERE state = 'x'")
    assert 'time.sleep(asked["blocks"])' in unpacked(where).decode()
