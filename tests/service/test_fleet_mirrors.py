"""Mirrors of a fleet of real nodes: cloned from each other, found from any of them, and announced once."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_twisted
from fleet_homes import home_of

from stackit.testing import PretendGitHub, RunningStackit, push_payload

Start = Callable[..., Awaitable[RunningStackit]]
REPOS = [f"octo/widget-{number}" for number in range(6)]


def refs_at(path: str) -> dict[str, str]:
    """The refs of a mirror on disk."""
    git = ["git", f"--git-dir={path}", "for-each-ref", "--format=%(objectname) %(refname)"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    return {ref: oid for oid, ref in (line.split(" ", 1) for line in listed.stdout.splitlines())}


class Nodes:
    """Nodes of one fleet, with mirrors of repositories of a pretend GitHub."""

    def __init__(self, start: Start, conninfo: str, github: PretendGitHub) -> None:
        self._start = start
        self._conninfo = conninfo
        self.github = github
        self.urls: dict[str, str] = {}

    async def start(self, name: str, **fleet: Any) -> RunningStackit:
        return await self._start(
            config={
                "fleet": {"postgres": self._conninfo, "node": name, "lease": "60s", **fleet},
                "repos": [{"name": name, "url": url} for name, url in self.urls.items()],
                "sync": {"interval": "5m"},
            }
        )

    async def shown(self, node: RunningStackit) -> dict[str, dict[str, Any]]:
        """All mirrors, as a node shows them."""
        answer = (await node.admin("GET", "{prefix}/repos")).json()
        return {each["name"]: each for each in answer["repos"]}

    async def in_step(self, node: RunningStackit, *homes: str) -> dict[str, str]:
        """Wait until a node shows all mirrors to be in step, each where it stays of these nodes, and on that disk.

        Returns the node of each.
        """
        expected = {name: home_of(homes, name) for name in self.urls}
        assert set(expected.values()) == set(homes)

        async def are_in_step() -> bool:
            shown = (await self.shown(node)).values()
            if {each["name"]: each["node"] for each in shown} != expected:
                return False
            if any(each["state"] != "in_step" for each in shown):
                return False
            return all([refs_at(each["path"]) == await self.github.refs(each["name"]) for each in shown])

        await node.until(are_in_step, f"all mirrors to be in step at {', '.join(homes)}", within=60)
        return expected

    async def push(self, node: RunningStackit, repo: str) -> None:
        """Push, have a node receive it, and wait until it is visible in the mirror."""
        moved = await self.github.commit(repo)
        about = self.github.repository(repo)
        payload = push_payload(
            repo, moved.ref, moved.before, moved.after, commits=moved.commits, repository_object=about
        )
        guid = str(uuid4())
        assert (await node.deliver("push", payload, guid=guid)).status == 202

        async def is_visible() -> bool:
            receipt = await node.receipt(guid)
            return receipt is not None and receipt["visible_at"] is not None

        await node.until(is_visible, f"the push of {repo} to be visible", within=60)

    async def announced(self, node: RunningStackit, number: int) -> None:
        """Wait until so many changes of refs were announced, and no more."""
        found = 0

        async def are_announced() -> bool:
            nonlocal found
            answer = await node.admin("GET", "{prefix}/deliveries", event="refs_changed", limit="100")
            found = len(answer.json()["deliveries"])
            return found >= number

        await node.until(are_announced, f"{number} changes to be announced", within=60)
        assert found == number


@pytest.fixture
def nodes(postgres: str, running_stackit: Start, pretend_github: PretendGitHub) -> Nodes:
    return Nodes(running_stackit, postgres, pretend_github)


@pytest_twisted.ensureDeferred
async def test_a_node_that_joins_clones_from_the_one_that_is_there_and_all_nodes_know_all(nodes: Nodes) -> None:
    for repo in REPOS:
        nodes.urls[repo] = await nodes.github.create(repo)
        await nodes.github.commit(repo)
    a = await nodes.start("a")
    await nodes.in_step(a, "a")
    announced = len(REPOS)
    await nodes.announced(a, announced)
    b = await nodes.start("b")
    homes = await nodes.in_step(b, "a", "b")
    assert await nodes.in_step(a, "a", "b") == homes
    places = [
        {each["name"]: (each["node"], each["path"]) for each in (await nodes.shown(node)).values()} for node in (a, b)
    ]
    assert places[0] == places[1]
    assert "looked at the remote" not in b.log  # it has them from the other node, and asked no remote a second time
    assert "looked at the remote" in a.log
    await nodes.announced(b, announced)

    # A push that one node receives becomes visible at the other.
    for repo in REPOS:
        await nodes.push(b if homes[repo] == "a" else a, repo)
    await nodes.in_step(a, "a", "b")
    await nodes.announced(a, announced + len(REPOS))
    for repo, home in homes.items():
        synced = await (b if home == "a" else a).admin("POST", f"{{prefix}}/repos/{repo}/sync")
        assert (synced.status, synced.json()) == (200, {"changes": []})

    # What is at the other node now is deleted here, and what goes back is cloned back.
    async def deleted() -> bool:
        return all(not _path(a, repo).exists() for repo, home in homes.items() if home == "b")

    await a.until(deleted, "mirrors that are elsewhere to be removed")
    await a.admin("POST", "{prefix}/fleet/nodes/b/drain")
    assert set((await nodes.in_step(a, "a")).values()) == {"a"}
    await nodes.announced(a, announced + len(REPOS))


@pytest_twisted.ensureDeferred
async def test_with_two_copies_the_second_goes_on_when_the_first_is_gone(nodes: Nodes) -> None:
    for repo in REPOS:
        nodes.urls[repo] = await nodes.github.create(repo)
        await nodes.github.commit(repo)
    # The lease is longer than a machine stands still: a node that comes back to the fleet looks at the remotes again.
    a, b = [await nodes.start(name, copies=2, rehome_after="1s", lease="12s") for name in "ab"]
    homes = await nodes.in_step(a, "a", "b")

    async def are_copied() -> bool:
        return all(
            [refs_at(str(_path(node, repo))) == await nodes.github.refs(repo) for repo in REPOS for node in (a, b)]
        )

    await a.until(are_copied, "two copies of each", within=60)
    for repo in REPOS:
        await nodes.push(b, repo)
    await a.until(are_copied, "both copies to follow", within=60)
    announced = 2 * len(REPOS)
    await nodes.announced(b, announced)
    asked = len(nodes.github.requests)
    await a.kill()
    assert set((await nodes.in_step(b, "b")).values()) == {"b"}
    await nodes.announced(b, announced)
    assert len(nodes.github.requests) == asked  # all is there, and was looked at a moment ago
    lost = next(repo for repo, home in homes.items() if home == "a")
    await nodes.push(b, lost)
    await nodes.announced(b, announced + 1)
    # What comes back is older than what was announced, and is no news.
    await a.start()
    await nodes.in_step(b, "a", "b")
    await a.until(are_copied, "both copies to follow again", within=60)
    await nodes.announced(b, announced + 1)


@pytest_twisted.ensureDeferred
async def test_a_node_that_joins_leaves_no_mirror_with_one_copy(nodes: Nodes) -> None:
    for repo in REPOS:
        nodes.urls[repo] = await nodes.github.create(repo)
        await nodes.github.commit(repo)
    running = [await nodes.start(name, copies=2) for name in "ab"]
    await nodes.in_step(running[0], "a", "b")

    async def copies() -> dict[str, int]:
        refs = {repo: await nodes.github.refs(repo) for repo in REPOS}
        return {repo: sum(refs_at(str(_path(each, repo))) == refs[repo] for each in running) for repo in REPOS}

    async def are_two() -> bool:
        return set((await copies()).values()) == {2}

    await running[0].until(are_two, "two copies of each", within=60)
    running.append(await nodes.start("c", copies=2))
    homes: list[str] = []

    async def are_moved() -> bool:
        found = await copies()
        assert min(found.values()) >= 2
        homes[:] = {each["node"] for each in (await nodes.shown(running[0])).values()}
        return set(homes) == set("abc") and set(found.values()) == {2}

    await running[0].until(are_moved, "the third node to have its part, and no mirror to be there thrice", within=60)


def _path(node: RunningStackit, repo: str) -> Path:
    return node.state_dir / "mirrors" / f"{repo}.git"
