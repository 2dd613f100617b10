"""A node that dies, freezes or fails: its work goes on at the others, once and in order."""

from __future__ import annotations

import pytest_twisted
from fleet_load import Load, StartFleet
from outside import together
from twisted.internet.defer import Deferred

from stackit.api.reactor import sleep
from stackit.testing import FleetNode, RunningFleet

REPOS = [f"octo/widget-{number}" for number in range(12)]


async def kill(node: FleetNode, load: Load) -> None:
    pid = node.pid
    load.stopped(pid)
    await node.kill()
    load.stopped(pid)  # it may have begun something in between


async def sent_some(fleet: RunningFleet, load: Load, number: int) -> None:
    async def sent() -> bool:
        return len(load.sent) >= number

    await fleet.until(sent, f"{number} deliveries to be taken", within=60)


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_killed_under_load_loses_nothing(start_fleet: StartFleet, load: Load) -> None:
    fleet = await start_fleet()
    sending = Deferred.fromCoroutine(load.send(fleet, REPOS, 40, takes=0.02))
    await sent_some(fleet, load, 120)
    recorded, at = await load.recorded(fleet)
    await kill(fleet["b"], load)
    await sending
    await load.all_done(fleet)
    load.check()
    # What ran as it was killed may have ended without saying so, and is done again; nothing else is.
    assert recorded
    assert load.begun_again(recorded, at) == []
    await fleet["b"].start()
    await fleet.settled()
    await load.send(fleet, REPOS, 3)
    await load.all_done(fleet)
    load.check()


@pytest_twisted.ensureDeferred
async def test_a_node_that_is_frozen_past_its_lease_changes_nothing_as_it_wakes(
    start_fleet: StartFleet, load: Load
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    fleet = await start_fleet()
    frozen = fleet["b"]
    assert frozen.pid is not None
    before = (await fleet.query("SELECT incarnation FROM nodes WHERE name = 'b' AND state = 'up'"))[0][0]
    sending = Deferred.fromCoroutine(load.send(fleet, REPOS, 10, takes=0.3))
    await sent_some(fleet, load, len(REPOS) * 2)

    async def is_at_work() -> bool:
        last = {note.guid: note for note in load.notes()}
        return any(note.what == "start" and note.pid == frozen.pid for note in last.values())

    await fleet.until(is_at_work, "the node to handle something")
    frozen.pause()
    load.stopped(frozen.pid)  # what it had begun is begun again elsewhere, while it stands still

    async def has_been_buried() -> bool:
        return bool(await fleet.query("SELECT FROM nodes WHERE incarnation = %s AND state = 'dead'", before))

    await fleet.until(has_been_buried, "the others to take its work")
    interrupted = {note.guid: note for note in load.notes() if note.pid == frozen.pid}
    interrupted = {guid: note for guid, note in interrupted.items() if note.what == "start"}

    async def went_on() -> bool:
        others = {note.guid for note in load.notes() if note.what == "end" and note.pid != frozen.pid}
        return set(interrupted) <= others

    await fleet.until(went_on, "the others to do what was interrupted")
    frozen.resume()
    await sending
    await load.all_done(fleet)
    await sleep(reactor, 0.5)  # an outcome that comes too late would be written by now
    load.check()
    for guid in interrupted:
        (node,) = await fleet.query(
            "SELECT o.node FROM outcomes o JOIN events e ON e.id = o.id / 4096 WHERE e.delivery = %s", guid
        )
        assert node[0] != before
    await fleet.settled()


@pytest_twisted.ensureDeferred
async def test_retries_go_on_at_another_node_with_their_attempts(start_fleet: StartFleet, load: Load) -> None:
    fleet = await start_fleet()
    load.failing.touch()
    await load.send(fleet, REPOS, 3)

    async def all_failed() -> bool:
        return len(await fleet.query("SELECT FROM work WHERE attempts > 0")) == len(load.sent)

    await fleet.until(all_failed, "every delivery to have failed once, as the next node will read it")
    await kill(fleet["a"], load)
    load.failing.unlink()
    await load.all_done(fleet)
    assert load.overlaps() == []
    assert load.twice() == set()
    receipts = await together(*(fleet.wait_for(sent.guid) for sent in load.sent))
    failed = [note.guid for note in load.notes() if note.what == "failed"]
    for sent, receipt in zip(load.sent, receipts, strict=True):
        (handling,) = receipt["handlings"]
        # A failure that the node could not record before it was killed is not counted.
        assert 2 <= handling["attempts"] <= failed.count(sent.guid) + 1
