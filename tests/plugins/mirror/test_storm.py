"""Everything at once: after it, one sync makes the mirror equal, sound, and exactly what was announced."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import ENV, Harness, end_git, git, managed, refs
from twisted.internet.defer import Deferred

from stackit import StackitError
from stackit.subprocesses import ProcessLimits, run
from stackit.testing import GitFailed, PretendGitHub

WIDGET = "octo/widget"
STEPS = 40
NAMES = (
    "refs/heads/topic",
    "refs/heads/topic/one",
    "refs/heads/topic/one/two",
    "refs/heads/a",
    "refs/heads/a/b",
    "refs/heads/caf\udce9",
    "refs/heads/-odd$(touch x)",
    "refs/heads/ünï-😀",
    "refs/tags/v1",
    "refs/tags/v1/x",
    "refs/stackit/review",
)


class Weather:
    """A remote to which anything may happen."""

    def __init__(self, github: PretendGitHub, seed: int) -> None:
        self._github = github
        self._chance = random.Random(seed)
        self._branches = 0

    async def step(self) -> None:
        """One thing that happens; git refuses some of them, such as a branch in the place of a folder."""
        happen = self._chance.choice(
            [self._push, self._push, self._force, self._delete, self._delete, self._set, self._tag, self._rename]
        )
        with contextlib.suppress(GitFailed, LookupError):
            await happen()

    def chance(self) -> float:
        return self._chance.random()

    async def _push(self) -> None:
        await self._github.commit(WIDGET, await self._default())

    async def _force(self) -> None:
        await self._github.force(WIDGET, await self._default())

    async def _delete(self) -> None:
        await self._github.delete_ref(WIDGET, self._chance.choice(NAMES))

    async def _set(self) -> None:
        made = await self._github.commit(WIDGET, f"refs/heads/scratch{self._chance.randrange(3)}")
        await self._github.set_ref(WIDGET, self._chance.choice(NAMES), made.after)

    async def _tag(self) -> None:
        path = self._github.path(WIDGET)
        git(path, "tag", "--force", "-a", "-m", str(self.chance()), "v2", await self._default())

    async def _rename(self) -> None:
        self._branches += 1
        await self._github.rename_default_branch(WIDGET, f"main{self._branches % 3}")

    async def _default(self) -> str:
        return await self._github.git(WIDGET, "symbolic-ref", "HEAD")

    async def empty(self) -> None:
        """Every ref is gone."""
        for ref in await self._github.refs(WIDGET):
            await self._github.delete_ref(WIDGET, ref)

    async def recreate(self) -> None:
        """Another history under the same name."""
        await self.empty()
        git(self._github.path(WIDGET), "symbolic-ref", "HEAD", "refs/heads/main")
        self._github._of(WIDGET).bare.default_branch = "main"
        await self._github.commit(WIDGET, "refs/heads/main", "another beginning")
        await self._github.commit(WIDGET, "refs/heads/topic/new")


@pytest_twisted.async_yield_fixture
async def harness(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Harness]:
    url = await pretend_github.create(WIDGET)
    await pretend_github.commit(WIDGET)
    harness = Harness(tmp_path / "state", managed(url))
    yield harness
    await harness.stop()


class Reader:
    """Somebody who clones from the mirror in a loop."""

    def __init__(self, harness: Harness, directory: Path) -> None:
        self._harness = harness
        self._directory = directory
        self._enough = False
        self.clones = 0
        self._reading = Deferred.fromCoroutine(self._read())

    async def _read(self) -> None:
        while not self._enough or not self.clones:
            target = self._directory / f"clone-{self.clones}"
            argv = ["git", "clone", "--quiet", "--mirror", f"file://{self._harness.path()}", str(target)]
            done = await run(self._harness.reactor, argv, env=ENV, limits=ProcessLimits(timeout=60))
            assert done.status == 0, done.stderr
            assert done.stderr in (b"", b"warning: You appear to have cloned an empty repository.\n")
            checked = await run(self._harness.reactor, ["git", "-C", str(target), "fsck", "--strict"], env=ENV)
            assert checked.status == 0, checked.stderr
            self.clones += 1

    async def end(self) -> None:
        self._enough = True
        await self._reading


def assert_equal(harness: Harness, github: PretendGitHub) -> None:
    upstream = github.path(WIDGET)
    assert refs(harness.path()) == refs(upstream) == harness.told[WIDGET]
    if refs(upstream):
        assert git(harness.path(), "symbolic-ref", "HEAD") == git(upstream, "symbolic-ref", "HEAD")
    git(harness.path(), "fsck", "--strict")


@pytest.mark.parametrize("seed", [1, 2])
@pytest_twisted.ensureDeferred
async def test_after_a_storm_one_sync_makes_mirror_remote_and_announcements_equal(
    harness: Harness, pretend_github: PretendGitHub, tmp_path: Path, seed: int
) -> None:
    await harness.worker().sync("start")
    weather = Weather(pretend_github, seed)
    reader = Reader(harness, tmp_path)
    for number in range(STEPS):
        await weather.step()
        syncing: Deferred[Any] = Deferred.fromCoroutine(
            harness.worker().sync("push" if weather.chance() < 0.6 else "backstop", full=weather.chance() < 0.5)
        )
        if weather.chance() < 0.5:
            await weather.step()  # while the fetch runs
        if weather.chance() < 0.3:
            end_git(harness.path())
        with contextlib.suppress(StackitError):
            await syncing
        assert refs(harness.path()) == harness.told[WIDGET], f"step {number}"
    await harness.worker().sync("manual", accept=True)
    assert_equal(harness, pretend_github)
    await reader.end()
    assert reader.clones


@pytest_twisted.ensureDeferred
async def test_an_upstream_that_was_emptied_and_made_anew_is_followed_with_a_persons_word(
    harness: Harness, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    await pretend_github.commit(WIDGET, "refs/heads/topic")
    await harness.worker().sync("start")
    reader = Reader(harness, tmp_path)
    weather = Weather(pretend_github, 1)
    await weather.empty()
    done = await harness.worker().sync("backstop")
    assert "deleted 2 of 2" in done.unequal
    assert len(refs(harness.path())) == 2
    await harness.worker().sync("manual", accept=True)
    assert_equal(harness, pretend_github)
    await weather.recreate()
    await harness.worker().sync("backstop")
    assert_equal(harness, pretend_github)
    await weather.recreate()
    await harness.worker().sync("manual")
    assert_equal(harness, pretend_github)
    await reader.end()
