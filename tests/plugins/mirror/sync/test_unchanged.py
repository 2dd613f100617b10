"""The backstop's is_unchanged: one request and no round, and a round as soon as anything is not as it was."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from mirror_harness import Harness, git, managed, refs
from twisted.internet.defer import Deferred
from waiting import until

from stackit.plugins.mirror.sync.quick_check import QuickCheck
from stackit.testing import PretendGitHub

MAIN = "refs/heads/main"


class Mirrored:
    """octo/widget and its mirror, which are equal, and known to be."""

    def __init__(self, github: PretendGitHub, harness: Harness) -> None:
        self.github = github
        self.harness = harness

    async def look(self) -> list[str]:
        """Let the backstop look: what it asked of the remote."""
        before = len(self.github.requests)
        await self.harness.backstop()
        return [each.command for each in self.github.requests[before:]]


@pytest_twisted.async_yield_fixture
async def mirrored(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Mirrored]:
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    harness = Harness(tmp_path / "state", managed(url), interval=0)
    await harness.backstop()
    # What was touched a moment ago is not trusted yet.
    for path in (harness.path(), *harness.path().rglob("*")):
        if "objects" not in path.parts:
            os.utime(path, (1, 1))
    await harness.backstop()
    yield Mirrored(pretend_github, harness)
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_an_unchanged_mirror_costs_one_request_and_no_round(mirrored: Mirrored) -> None:
    worker = mirrored.harness.worker()
    before = mirrored.harness.app.now()
    worker.rounds.ask = None  # whoever asked for a round would fail
    assert await mirrored.look() == ["ls-refs"]
    told = mirrored.harness.named("synced")[-1]
    assert (told.cause, told.outcome, told.state, told.count, told.error) == (
        "backstop",
        "unchanged",
        "in_step",
        0,
        None,
    )
    assert worker.status.verified_at >= before
    assert worker.state == "in_step"


@pytest_twisted.ensureDeferred
async def test_a_change_at_the_remote_is_fetched_and_told(mirrored: Mirrored) -> None:
    moved = await mirrored.github.commit("octo/widget")
    await mirrored.look()
    assert refs(mirrored.harness.path())[MAIN] == moved.after
    assert mirrored.harness.told["octo/widget"][MAIN] == moved.after


@pytest.mark.parametrize("ref", [MAIN, "refs/heads/mine", "refs/tags/deep/er"])
@pytest_twisted.ensureDeferred
async def test_a_change_of_the_mirror_by_hand_is_put_right(mirrored: Mirrored, ref: str) -> None:
    path = mirrored.harness.path()
    there = refs(path)
    git(path, "update-ref", ref, git(path, "commit-tree", "-m", "mine", f"{MAIN}^{{tree}}"))
    await mirrored.look()
    assert refs(path) == there


@pytest_twisted.ensureDeferred
async def test_a_remote_that_fails_is_told_of_by_a_round(mirrored: Mirrored) -> None:
    mirrored.github.fault("octo/widget", 404)
    await mirrored.look()
    assert mirrored.harness.worker().state == "failing"
    assert "no such repository" in (mirrored.harness.named("synced")[-1].error or "")


@pytest_twisted.ensureDeferred
async def test_a_remote_that_wants_silence_is_not_asked_by_git_either(mirrored: Mirrored) -> None:
    mirrored.github.fault("octo/widget", 429)
    asked = await mirrored.look()
    assert set(asked) == {"ls-refs"}
    worker = mirrored.harness.worker()
    assert worker.quiet_until > mirrored.harness.reactor.seconds() + 50
    assert "none for 60 seconds" in str(worker.status.error)


@pytest_twisted.ensureDeferred
async def test_a_push_during_a_quick_check_is_not_undone_by_it(mirrored: Mirrored) -> None:
    worker = mirrored.harness.worker()
    look, answers, passed_on = worker._refresher.is_unchanged, list[bool](), Deferred[None]()

    async def look_slowly() -> bool:
        answers.append(await look())
        await passed_on
        return answers[0]

    worker._refresher.is_unchanged = look_slowly
    is_unchanged = Deferred.fromCoroutine(worker.is_unchanged())
    await until(lambda: answers)
    moved = await mirrored.github.commit("octo/widget")
    await worker.sync("push", full=False)
    covered = worker.status.covered_at
    passed_on.callback(None)
    assert await is_unchanged
    assert worker.status.covered_at == covered
    assert refs(mirrored.harness.path())[MAIN] == moved.after


@pytest_twisted.ensureDeferred
async def test_what_is_kept_for_an_unchanged_mirror_does_not_grow_with_its_refs(
    mirrored: Mirrored,
) -> None:
    def kept() -> int:
        look: QuickCheck = mirrored.harness.worker()._refresher._equality.quick_check
        assert look._equal is not None
        return len(look._equal.digest) + len(look._equal.stamps.stamps) + sum(map(len, look._equal.stamps.folders))

    few = kept()
    source, mirror = mirrored.github.path("octo/widget"), mirrored.harness.path()
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
