"""Three receivers without faults: order for each repository, one event for one id, and answers that are alike."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest_twisted
from fleet_load import Load, StartFleet
from outside import together

from stackit.testing import Answer, FleetNode, delivery, payload_for
from stackit.testing.process import SECRET

REPOS = [f"octo/widget-{number}" for number in range(20)]
NEVER = "60s"
"""A lease that ends in none of these tests."""


async def outcomes(answers: list[Answer]) -> Counter[tuple[int, bool]]:
    return Counter((each.status, bool(each.json().get("duplicate"))) for each in answers)


@pytest_twisted.ensureDeferred
async def test_order_holds_for_each_repository_over_alternating_receivers(start_fleet: StartFleet, load: Load) -> None:
    fleet = await start_fleet(fleet={"lease": NEVER})
    await load.send(fleet, REPOS, 30)
    await load.all_done(fleet)
    load.check()
    assert load.twice() == set()
    at_work = {note.pid for note in load.notes()}
    assert at_work == {node.pid for node in fleet.nodes.values()}
    assert len(await fleet.query("SELECT FROM events")) == len(load.sent) == 600


@pytest_twisted.ensureDeferred
async def test_one_id_and_one_body_at_three_receivers_at_once_are_one_event(
    start_fleet: StartFleet, load: Load
) -> None:
    fleet = await start_fleet(fleet={"lease": NEVER}, config={"webhook": {"refuse_replays": True}})
    nodes = list(fleet.nodes.values())

    async def send(node: FleetNode, guid: str, number: int, name: str) -> Answer:
        payload = {**payload_for("issues", "opened", "octo/widget"), "asked": {"number": number, "name": name}}
        return await node.post(delivery("issues", payload, secret=SECRET, guid=guid))

    for number in range(20):
        answers = await together(*(send(node, f"id-{number}", number, "id") for node in nodes))
        assert await outcomes(answers) == {(202, False): 1, (202, True): 2}
    for number in range(20):
        answers = await together(*(send(node, f"{node.name}-{number}", number, "body") for node in nodes))
        assert Counter(each.status for each in answers) == {202: 1, 409: 2}
    # Each receiver gets the same forty, in another order: whoever waits for the other must not wait for ever.
    forwards = [send(nodes[0], f"cross-{number}", number, "cross") for number in range(40)]
    backwards = [send(nodes[1], f"cross-{number}", number, "cross") for number in reversed(range(40))]
    assert await outcomes(await together(*forwards, *backwards)) == {(202, False): 40, (202, True): 40}

    async def handled() -> bool:
        return sum(note.what == "end" for note in load.notes()) == 80

    await fleet.until(handled, "eighty events to be handled")
    ended = Counter(note.guid for note in load.notes() if note.what == "end")
    assert set(ended.values()) == {1}
    assert load.overlaps() == []


@pytest_twisted.ensureDeferred
async def test_dead_letters_receipts_and_replays_are_the_same_from_any_node(
    start_fleet: StartFleet, load: Load
) -> None:
    fleet = await start_fleet(fleet={"lease": NEVER})
    nodes = list(fleet.nodes.values())
    load.broken.touch()
    await load.send(fleet, REPOS[:6], 1)
    for sent in load.sent:
        await fleet.wait_for(sent.guid, "dead")
    for node in nodes:
        dead = (await node.admin("GET", "{prefix}/deliveries", state="dead")).json()["deliveries"]
        assert {each["delivery"] for each in dead} == {sent.guid for sent in load.sent}
    receipts = [msgspec.json.encode(await node.receipt(load.sent[0].guid)) for node in nodes]
    assert len(set(receipts)) == 1

    load.broken.unlink()
    for sent, node in zip(load.sent, [*nodes, *nodes], strict=True):
        receipt: Any = await node.receipt(sent.guid)
        assert (await node.admin("POST", f"{{prefix}}/deliveries/{receipt['id']}/replay")).status == 200
    await load.all_done(fleet)
    for sent in load.sent:
        await fleet.wait_for(sent.guid)
    assert load.twice() == set()


@pytest_twisted.ensureDeferred
async def test_one_node_at_a_time_has_a_round_of_the_backstop(start_fleet: StartFleet, load: Load) -> None:
    fleet = await start_fleet(fleet={"lease": NEVER}, config={"sync": {"interval": "1s"}})

    async def rounds() -> list[float]:
        times = [note.at for note in load.notes() if note.what == "round"]
        return times if times and times[-1] > times[0] + 5.0 else []

    # Three nodes, each for itself, would have three times as many.
    times = await fleet.until(rounds, "five seconds of rounds of the backstop", within=60)
    assert 2 <= len(times) <= (times[-1] - times[0]) + 3
