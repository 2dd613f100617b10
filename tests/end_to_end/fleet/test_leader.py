"""What a fleet does once at GitHub: at its leader, for all nodes, and at the next leader when that is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from fleet_load import StartFleet

from stackit.testing import PretendGitHub, RunningFleet
from stackit.testing.fleet_node import FleetNode
from stackit.testing.github_api.hooks import Hook

LISTING = "/installation/repositories"
PERMISSIONS = {"contents": "read", "metadata": "read", "repository_hooks": "write"}


def configured(directory: Path, github: PretendGitHub) -> dict[str, Any]:
    """The configuration of an App, which is installed for everything of octo."""
    app = github.apps.create("main", owner="octo", permissions=PERMISSIONS)
    for name, text in (("key.pem", app.private_key), ("secret", app.webhook_secret)):
        (directory / name).write_text(text)
        (directory / name).chmod(0o600)
    return {
        "apps": [
            {
                "name": "main",
                "app_id": app.id,
                "private_key_file": str(directory / "key.pem"),
                "secret_files": [str(directory / "secret")],
                "api_url": github.api_url,
            }
        ],
        "discover": [{"app": "main"}],
        "recovery": {"enabled": False},
        "hooks": {"interval": "0"},
        "public_url": "https://stackit.example.org",
    }


async def leader_of(fleet: RunningFleet) -> FleetNode:
    """Wait until a node leads, and return it."""

    async def found() -> str | None:
        rows = await fleet.query(
            "SELECT n.name FROM shards s JOIN nodes n ON n.incarnation = s.owner"
            " WHERE s.space = 'l' AND n.state = 'up' AND n.until > clock_timestamp()"
        )
        return str(rows[0][0]) if rows else None

    return fleet[await fleet.until(found, "a leader")]


@pytest_twisted.ensureDeferred
async def test_one_node_asks_github_and_all_know_what_it_said(
    running_fleet: StartFleet, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    github = pretend_github
    config = configured(tmp_path, github)
    await github.create("octo/widget")
    await github.commit("octo/widget")
    (app,) = github.apps
    await app.install("octo")
    fleet = await running_fleet(nodes=("a", "b"), fleet={"lease": "10s"}, config=config)
    leader = await leader_of(fleet)
    other = fleet["b" if leader.name == "a" else "a"]

    async def known(*repos: str) -> None:
        async def are() -> bool:
            found = [
                {each["name"] for each in (await node.admin("GET", "{prefix}/repos")).json()["repos"]}
                for node in fleet.nodes.values()
                if node.is_running
            ]
            return all(each == set(repos) for each in found)

        await fleet.until(are, f"{repos} at all nodes")

    await known("octo/widget")
    assert github.api.count(LISTING) == 1

    # An event that the other node receives has the leader look.
    await github.admin.rename("octo/widget", "renamed")
    told = {"action": "renamed", "repository": github.repository("octo/renamed")}
    (installation,) = app.installations
    told["installation"] = {"id": installation.id}
    assert (await other.deliver("repository", told, secret=app.webhook_secret)).status == 202
    await known("octo/renamed")

    # A secret that is made for a webhook is at every node, whichever was asked.
    done = await other.admin("POST", "{prefix}/hooks/create", hook="octo/renamed")
    assert done.status == 200, done.body
    hook: Hook
    (hook,) = github.hooks.of("repository", github.repositories.of("octo/renamed").id)
    push = {"ref": "refs/heads/x", "repository": github.repository("octo/renamed")}
    for number, node in enumerate(fleet.nodes.values()):
        assert (node.state_dir / "webhook-secrets" / "repo+octo+renamed").read_text().strip() == hook.config.secret
        assert (await node.deliver("push", push, guid=f"p{number}", secret=str(hook.config.secret))).status == 202

    # The next leader goes on.
    await leader.kill()
    listings = github.api.count(LISTING)

    async def is_other() -> bool:
        return await leader_of(fleet) is other

    await fleet.until(is_other, "the other node to lead")
    await github.create("octo/late")

    async def discovers() -> bool:  # as soon as it knows that it leads
        return (await other.admin("POST", "{prefix}/discover")).status == 200

    await fleet.until(discovers, "the other node to discover")
    await known("octo/renamed", "octo/late")
    assert github.api.count(LISTING) > listings
