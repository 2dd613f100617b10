"""The backstop's glance: one request and no round, and a round as soon as anything is not as it was."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from mirror_house import House, git, managed, refs
from twisted.internet.defer import Deferred

from stackit.plugins.mirror.sync.quick_check import Look
from stackit.testing import PretendGitHub

MAIN = "refs/heads/main"


class Mirrored:
    """octo/widget and its mirror, which are equal, and known to be."""

    def __init__(self, github: PretendGitHub, house: House) -> None:
        self.github = github
        self.house = house

    async def look(self) -> list[str]:
        """Let the backstop look: what it asked of the remote."""
        before = len(self.github.requests)
        await self.house.backstop()
        return [each.command for each in self.github.requests[before:]]


@pytest_twisted.async_yield_fixture
async def mirrored(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Mirrored]:
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    house = House(tmp_path / "state", managed(url), interval=0)
    await house.backstop()
    # What was touched a moment ago is not trusted yet.
    for path in (house.path(), *house.path().rglob("*")):
        if "objects" not in path.parts:
            os.utime(path, (1, 1))
    await house.backstop()
    yield Mirrored(pretend_github, house)
    await house.stop()


@pytest_twisted.ensureDeferred
async def test_an_unchanged_mirror_costs_one_request_and_no_round(mirrored: Mirrored) -> None:
    keeper = mirrored.house.keeper()
    before = mirrored.house.app.now()
    keeper.rounds.ask = None  # whoever asked for a round would fail
    assert await mirrored.look() == ["ls-refs"]
    told = mirrored.house.named("synced")[-1]
    assert (told.cause, told.outcome, told.state, told.count, told.error) == (
        "backstop",
        "unchanged",
        "in_step",
        0,
        None,
    )
    assert keeper.standing.verified_at >= before
    assert keeper.state == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_change_at_the_remote_is_fetched_and_told(mirrored: Mirrored) -> None:
    moved = await mirrored.github.commit("octo/widget")
    await mirrored.look()
    assert refs(mirrored.house.path())[MAIN] == moved.after
    assert mirrored.house.told["octo/widget"][MAIN] == moved.after


@pytest.mark.parametrize("ref", [MAIN, "refs/heads/mine", "refs/tags/deep/er"])
@pytest_twisted.ensureDeferred
async def test_a_change_of_the_mirror_by_hand_is_put_right(mirrored: Mirrored, ref: str) -> None:
    path = mirrored.house.path()
    there = refs(path)
    git(path, "update-ref", ref, git(path, "commit-tree", "-m", "mine", f"{MAIN}^{{tree}}"))
    await mirrored.look()
    assert refs(path) == there


@pytest_twisted.ensureDeferred
async def test_a_remote_that_fails_is_told_of_by_a_round(mirrored: Mirrored) -> None:
    mirrored.github.fault("octo/widget", 404)
    await mirrored.look()
    assert mirrored.house.keeper().state == "failing"
    assert "no such repository" in (mirrored.house.named("synced")[-1].error or "")


@pytest_twisted.ensureDeferred
async def test_a_remote_that_wants_silence_is_not_asked_by_git_either(mirrored: Mirrored) -> None:
    mirrored.github.fault("octo/widget", 429)
    asked = await mirrored.look()
    assert set(asked) == {"ls-refs"}
    keeper = mirrored.house.keeper()
    assert keeper.quiet_until > mirrored.house.reactor.seconds() + 50
    assert "none for 60 seconds" in str(keeper.standing.error)


@pytest_twisted.ensureDeferred
async def test_a_push_during_a_glance_is_not_undone_by_it(mirrored: Mirrored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stackit.testing.faults._DRIP", 0.005)
    keeper = mirrored.house.keeper()
    mirrored.github.fault("octo/widget", "drip", times=1)
    glance = Deferred.fromCoroutine(keeper.glance())
    moved = await mirrored.github.commit("octo/widget")
    await keeper.sync("push", look=False)
    covered = keeper.standing.covered_at
    assert not glance.called
    assert await glance
    assert keeper.standing.covered_at == covered
    assert refs(mirrored.house.path())[MAIN] == moved.after


@pytest_twisted.ensureDeferred
async def test_what_is_kept_for_an_unchanged_mirror_does_not_grow_with_its_refs(
    mirrored: Mirrored,
) -> None:
    def kept() -> int:
        look: Look = mirrored.house.keeper()._refresher._look
        assert look._equal is not None
        return len(look._equal.digest) + len(look._equal.touched.marks) + sum(map(len, look._equal.touched.folders))

    few = kept()
    source, mirror = mirrored.github.path("octo/widget"), mirrored.house.path()
    oid = refs(source)[MAIN]
    lines = "".join(f"create refs/heads/b{number} {oid}\n" for number in range(2000)).encode()
    git(source, "update-ref", "--stdin", stdin=lines)
    await mirrored.look()
    git(mirror, "pack-refs", "--all")
    for path in (mirror, *mirror.rglob("*")):
        if "objects" not in path.parts:
            os.utime(path, (1, 1))
    await mirrored.look()
    assert len(refs(mirror)) == 2001
    assert kept() <= few
