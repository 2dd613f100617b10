"""Whichever node is asked: mirrors, repositories and pages are those of the fleet, and people are who they are."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlsplit

import pytest_twisted
from fleet_homes import at_home
from fleet_load import StartFleet
from outside import connect, shell

from stackit.testing import PretendGitHub, RunningFleet
from stackit.testing.fleet_node import FleetNode

NODES = ("a", "b")
TOKEN = "a-token-of-the-test-kit"


async def started(running_fleet: StartFleet, github: PretendGitHub, names: list[str], **fleet: Any) -> RunningFleet:
    """Two nodes that mirror these repositories, each mirror in step."""
    tables = []
    for name in names:
        tables.append({"name": name, "url": await github.create(name)})
        await github.commit(name)
    found = await running_fleet(
        nodes=NODES,
        fleet={"lease": "10s", **fleet},
        config={"repos": tables, "sync": {"interval": "0"}},
        environment={"STACKIT_API_TOKEN": TOKEN},
    )

    async def in_step() -> bool:
        seen = [(await found["a"].admin("GET", f"{{prefix}}/repos/{name}")).json() for name in names]
        return all(each.get("state") == "in_step" for each in seen)

    await at_home(found, names)
    await found.until(in_step, "all mirrors to be in step", within=60)
    return found


@pytest_twisted.ensureDeferred
async def test_every_node_answers_for_every_mirror_and_for_the_leader(
    running_fleet: StartFleet, pretend_github: PretendGitHub
) -> None:
    names = [f"octo/widget-{number}" for number in range(6)]
    fleet = await started(running_fleet, pretend_github, names, forward="redirect")
    homes = {}
    for name in names:
        seen = [(await fleet[node].admin("GET", f"{{prefix}}/repos/{name}")).json() for node in NODES]
        assert seen[0]["node"] == seen[1]["node"]
        homes[name] = seen[0]["node"]
    assert set(homes.values()) == set(NODES)
    for node in NODES:
        for name in names:
            await has_the_mirror(fleet, node, name, pretend_github)
        assert (await fleet[node].admin("GET", "{prefix}/github")).status == 200
        assert (await fleet[node].sync("octo/nothing")).status == 404
        for action in ("discover", "recover"):
            done = await fleet[node].admin("POST", f"{{prefix}}/{action}", dry_run="1")
            assert done.status == 200, done.body
        assert (await fleet[node].admin("POST", "{prefix}/hooks/check")).status == 200
    for number, node in enumerate(NODES):
        await adds(fleet, node, f"octo/added-{number}", pretend_github)
    removed = await fleet["b"].admin("DELETE", "{prefix}/repos/octo/added-0")
    assert removed.status == 200
    assert removed.json()["node"] in NODES
    name = names[0]
    other = next(node for node in NODES if node != homes[name])
    await is_sent_on(fleet[other], fleet[homes[name]], name)
    moved = await pretend_github.commit(name)
    ran = await shell(
        *(sys.executable, "-m", "stackit", "sync", name, "--admin-url", fleet[other].admin_url), STACKIT_API_TOKEN=TOKEN
    )
    assert ran.status == 0, ran.stderr.decode()
    assert moved.after[:7] in ran.stdout.decode()
    assert TOKEN not in fleet.log
    await is_missed(fleet, other, homes[name], name)


async def has_the_mirror(fleet: RunningFleet, node: str, name: str, github: PretendGitHub) -> None:
    """A node syncs a mirror, and shows its refs, its history and its page."""
    asked = fleet[node]
    moved = await github.commit(name)
    synced = await asked.sync(name)
    assert synced.status == 200, synced.body
    assert [each["new"] for each in synced.json()["changes"]] == [moved.after]
    refs = (await asked.admin("GET", f"{{prefix}}/repos/{name}/refs")).json()
    assert [each["oid"] for each in refs["refs"]] == [moved.after]
    history = await asked.admin("GET", f"{{prefix}}/repos/{name}/history")
    assert history.json()["history"][0]["state"] == "in_step"
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    page = await asked.ask("GET", f"{asked.admin_url}/repos/{name}", headers=bearer)
    assert page.status == 200
    assert moved.after[:7].encode() in page.body


async def adds(fleet: RunningFleet, node: str, name: str, github: PretendGitHub) -> None:
    """A person's repository: the leader writes it down, whoever is asked, and every node knows it."""
    url = await github.create(name)
    await github.commit(name)
    added = await fleet[node].admin("POST", "{prefix}/repos", f'{{"name": "{name}", "url": "{url}"}}'.encode())
    assert (added.status, added.json()["added_by"]) == (201, "STACKIT_API_TOKEN")

    async def everywhere() -> bool:
        seen = [(await fleet[each].admin("GET", f"{{prefix}}/repos/{name}")).json() for each in NODES]
        return all(each.get("state") == "in_step" for each in seen)

    await fleet.until(everywhere, f"{name} to be mirrored")


async def is_sent_on(asked: FleetNode, home: FleetNode, name: str) -> None:
    """A client that does not say that it follows no redirect is told where the mirror is."""
    path = f"/api/v1/repos/{name}/sync"
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close", "X-Stackit-CSRF: 1"]
    lines += [f"Authorization: Bearer {TOKEN}", "", ""]
    client = await connect(asked, urlsplit(asked.admin_url).port)
    sent = (await client.send("\r\n".join(lines).encode()).end()).decode()
    assert sent.startswith("HTTP/1.1 307")
    assert f"\r\nLocation: {home.admin_url}{path}\r\n" in sent


async def is_missed(fleet: RunningFleet, asked: str, home: str, name: str) -> None:
    """A node that died is named by the others, at once as one that does not answer, later as one that is away."""
    await fleet[home].kill()
    lost = await fleet[asked].admin("GET", f"{{prefix}}/repos/{name}/refs")
    assert lost.status == 502
    assert f"node {home}" in lost.json()["error"]

    async def is_away() -> bool:
        answer = await fleet[asked].sync(name)
        return answer.status == 502 and "is away" in answer.json()["error"]

    await fleet.until(is_away, "the node to be known as away")
