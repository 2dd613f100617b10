"""Mirrors of a fleet: each has a home, which it keeps while its node is away for a moment, and changes after that."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest_twisted
from fleet_homes import at_home
from fleet_load import StartFleet
from outside import Notebook, shell

from stackit.testing import PretendGitHub, RunningFleet, push_payload

REPOS = [f"octo/widget-{number}" for number in range(8)]


async def refs_at(path: str) -> dict[str, str] | None:
    """The refs of a mirror, as git reads them; None where there is none."""
    listed = await shell("git", f"--git-dir={path}", "for-each-ref", "--format=%(objectname) %(refname)")
    if listed.status:
        return None
    return {ref: oid for oid, _, ref in (line.partition(" ") for line in listed.stdout.decode().splitlines())}


class Mirrors:
    """The mirrors of a fleet, asked at one node."""

    def __init__(self, fleet: RunningFleet, github: PretendGitHub) -> None:
        self._fleet = fleet
        self._github = github

    async def status(self, repo: str, *, at: str) -> dict[str, Any]:
        status: dict[str, Any] = (await self._fleet[at].admin("GET", f"{{prefix}}/repos/{repo}")).json()
        return status

    async def push(self, repo: str, *, at: str) -> str:
        """Push, have a node receive it, and return the id of the delivery."""
        moved = await self._github.commit(repo)
        about = self._github.repository(repo)
        payload = push_payload(
            repo, moved.ref, moved.before, moved.after, commits=moved.commits, repository_object=about
        )
        guid = str(uuid4())
        answer = await self._fleet[at].deliver("push", payload, guid=guid)
        assert answer.status == 202
        return guid

    async def in_step(self, repo: str, *, at: str) -> str:
        """Wait until a mirror has the refs of its remote, and return its node."""

        async def found() -> str | None:
            status = await self.status(repo, at=at)
            node: str | None = status["node"]
            same = bool(node) and await refs_at(status["path"]) == await self._github.refs(repo)
            return node if same else None

        return await self._fleet.until(found, f"{repo} to be in step", within=60)


@pytest_twisted.ensureDeferred
async def test_mirrors_keep_their_home_and_move_when_it_is_gone_for_long(
    running_fleet: StartFleet, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    notebook = Notebook(tmp_path / "notebook")
    tables = [{"name": name, "url": await pretend_github.create(name)} for name in REPOS]
    for name in REPOS:
        await pretend_github.commit(name)
    fleet = await running_fleet(
        fleet={"lease": "6s", "rehome_after": "20s"},
        config={
            "repos": tables,
            "sync": {"interval": "0"},
            "plugins": {"notebook": notebook.table},
        },
        environment=notebook.environment,
    )
    mirrors = Mirrors(fleet, pretend_github)
    for name in REPOS:
        sent = await mirrors.push(name, at="a")
        await fleet.wait_for(sent, visible=True)
    homes = await at_home(fleet, REPOS)
    assert len(set(homes.values())) > 1
    assert {name: await mirrors.in_step(name, at="b") for name in REPOS} == homes

    # Away for a moment: its mirrors wait, and stay.
    repo, home = next((name, node) for name, node in homes.items() if node != "a")
    other = next(node for node in fleet.nodes if node not in ("a", home))
    await fleet[home].kill()
    sent = await mirrors.push(repo, at="a")
    await fleet[home].start()
    await fleet.wait_for(sent, visible=True)
    assert await mirrors.in_step(repo, at=other) == home

    # Away for longer than it may: others take them over. As it wakes, what it has is old, and announces nothing.
    fleet[home].pause()
    await mirrors.push(repo, at="a")

    async def moved() -> bool:
        return bool((await mirrors.status(repo, at="a"))["node"] not in (None, home))

    await fleet.until(moved, "the mirror to have another home", within=60)
    assert await mirrors.in_step(repo, at=other) != home
    await mirrors.push(repo, at="a")
    fleet[home].resume()
    await mirrors.push(repo, at=other)
    await fleet.settled()
    for name in REPOS:
        await mirrors.in_step(name, at=home)

    async def all_announced() -> bool:
        return all([notebook.replayed_refs(name) == await pretend_github.refs(name) for name in REPOS])

    await fleet.until(all_announced, "every change of a ref to be announced")


@pytest_twisted.ensureDeferred
async def test_second_copies_follow_a_home_that_started_again(
    running_fleet: StartFleet, pretend_github: PretendGitHub
) -> None:
    repo = REPOS[0]
    tables = [{"name": repo, "url": await pretend_github.create(repo)}]
    await pretend_github.commit(repo)
    fleet = await running_fleet(
        nodes=("a", "b"),
        fleet={"lease": "60s", "copies": 2, "rehome_after": "1h"},
        config={"repos": tables, "sync": {"interval": "0"}},
    )
    mirrors = Mirrors(fleet, pretend_github)
    home = (await at_home(fleet, [repo]))[repo]
    assert await mirrors.in_step(repo, at="a") == home
    other = "b" if home == "a" else "a"
    copy = Path(
        (await mirrors.status(repo, at=home))["path"].replace(str(fleet[home].state_dir), str(fleet[other].state_dir))
    )

    async def follows() -> bool:
        return await refs_at(str(copy)) == await pretend_github.refs(repo)

    await fleet.until(follows, "the second copy to be there", within=60)
    await fleet[home].stop()
    await fleet[home].start()
    await mirrors.push(repo, at=other)
    assert await mirrors.in_step(repo, at=other) == home
    await fleet.until(follows, "the second copy to follow", within=60)
