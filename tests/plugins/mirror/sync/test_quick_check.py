"""The quick check of a mirror against its remote, by one request to the pretend GitHub."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from stackit import ManagedRepo, Repo
from stackit.http.client import RemoteError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.remote.remotes import Remotes
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.repository.tamper import ref_stamps
from stackit.plugins.mirror.sync.quick_check import QuickCheck
from stackit.testing import PretendGitHub
from stackit.text.redaction import redacted

MAIN = "refs/heads/main"
LATER = 4e9
"""A moment at which every file has been as it is for long."""


class Harness:
    """A mirror of octo/widget, and the quick check of its remote."""

    def __init__(self, github: PretendGitHub, git: Git, quick_check: QuickCheck, directory: Path) -> None:
        self.github = github
        self.git = git
        self.quick_check = quick_check
        self.directory = directory

    async def is_as_before(self) -> bool:
        return self.quick_check.is_as_before(await self.quick_check.ask(self.directory, "sha1"))

    async def is_equal(self, now: float = LATER) -> bool:
        answer = await self.quick_check.ask(self.directory, "sha1")
        head = (await self.git.local(self.directory, "symbolic-ref", "HEAD")).stdout.decode().strip()
        return self.quick_check.is_equal(answer, await Repository(self.git, self.directory).refs(), head, now)


@pytest_twisted.async_yield_fixture
async def harness(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Harness]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    await pretend_github.commit("octo/widget", "refs/heads/topic/one")
    await pretend_github.set_ref("octo/widget", "refs/pull/1/head", MAIN)
    directory = tmp_path / "widget.git"
    refspecs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
    (tmp_path / "home").mkdir()
    git = Git(reactor, tmp_path / "home", redacted)
    source = str(pretend_github.path("octo/widget"))
    await pretend_github.git("octo/widget", "clone", "--quiet", "--bare", source, str(directory))
    managed = ManagedRepo(repo=Repo("octo", "widget"), url=url, refspecs=refspecs)
    remotes = Remotes(reactor, 4)
    remote = remotes.get(managed)
    assert remote is not None
    yield Harness(pretend_github, git, QuickCheck(remote, managed), directory)
    await remotes.close()


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_was_equal_is_as_before_by_one_request(harness: Harness) -> None:
    assert not await harness.is_as_before(), "nothing is known at first"
    assert await harness.is_equal()
    asked = len(harness.github.requests)
    assert await harness.is_as_before()
    assert [each.command for each in harness.github.requests[asked:]] == ["ls-refs"]


@pytest_twisted.ensureDeferred
async def test_a_change_at_the_remote_is_seen(harness: Harness) -> None:
    assert await harness.is_equal()
    await harness.github.commit("octo/widget")
    assert not await harness.is_as_before()
    assert not await harness.is_equal()


@pytest.mark.parametrize("ref", ["refs/heads/new", "refs/tags/v1"])
@pytest_twisted.ensureDeferred
async def test_a_new_ref_at_the_remote_is_seen(harness: Harness, ref: str) -> None:
    assert await harness.is_equal()
    await harness.github.set_ref("octo/widget", ref, MAIN)
    assert not await harness.is_as_before()


@pytest_twisted.ensureDeferred
async def test_a_ref_that_the_mirror_does_not_keep_changes_nothing(harness: Harness) -> None:
    assert await harness.is_equal()
    await harness.github.set_ref("octo/widget", "refs/pull/2/head", MAIN)
    assert await harness.is_as_before()


@pytest_twisted.ensureDeferred
async def test_another_default_branch_is_seen(harness: Harness) -> None:
    assert await harness.is_equal()
    await harness.github.git("octo/widget", "symbolic-ref", "HEAD", "refs/heads/topic/one")
    assert not await harness.is_as_before()
    assert not await harness.is_equal()


@pytest.mark.parametrize(
    "by_hand",
    [
        ("update-ref", "refs/heads/mine", MAIN),
        ("update-ref", "-d", MAIN),
        ("update-ref", "-d", "refs/heads/topic/one"),
        ("symbolic-ref", "HEAD", "refs/heads/topic/one"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_change_of_the_mirror_by_hand_is_seen(harness: Harness, by_hand: Any) -> None:
    await harness.git.local(harness.directory, "pack-refs", "--all", "--no-prune")
    assert await harness.is_equal()
    await harness.git.local(harness.directory, *by_hand)
    assert not await harness.is_as_before()
    assert not await harness.is_equal()


@pytest_twisted.ensureDeferred
async def test_a_file_that_changed_a_moment_ago_is_not_trusted(harness: Harness) -> None:
    """The clock of a file system may not tick between two changes, so the second could leave no trace."""
    newest = ref_stamps(harness.directory).newest
    assert await harness.is_equal(now=newest + 0.5)
    assert not await harness.is_as_before()
    assert await harness.is_equal(now=newest + 1.5)
    assert await harness.is_as_before()


@pytest_twisted.ensureDeferred
async def test_a_remote_that_does_not_answer_is_no_equal_mirror(harness: Harness) -> None:
    harness.github.fault("octo/widget", 429)
    with pytest.raises(RemoteError) as unanswered:
        await harness.is_as_before()
    assert unanswered.value.status == 429


@pytest.mark.parametrize("folder", ["refs", "refs/heads/a", "refs/heads/a/b"])
def test_every_folder_of_refs_is_watched(tmp_path: Path, folder: str) -> None:
    (tmp_path / "refs" / "heads" / "a" / "b").mkdir(parents=True)
    before = ref_stamps(tmp_path)
    assert before.is_current(tmp_path)
    os.utime(tmp_path / folder, (1, 1))
    assert ref_stamps(tmp_path) != before
    assert not before.is_current(tmp_path)


def test_a_folder_that_is_new_or_gone_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    for folder in ("refs", "refs/heads"):
        os.utime(tmp_path / folder, (1, 1))
    before = ref_stamps(tmp_path)
    (tmp_path / "refs" / "heads" / "topic").mkdir()
    assert not before.is_current(tmp_path)
    with_topic = ref_stamps(tmp_path)
    (tmp_path / "refs" / "heads" / "topic").rmdir()
    assert not with_topic.is_current(tmp_path)


def test_a_mirror_of_many_refs_leaves_no_more_traces_than_one_of_few(tmp_path: Path) -> None:
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    few = ref_stamps(tmp_path)
    packed = b"".join(b"%040x refs/heads/b%d\n" % (number, number) for number in range(10_000))
    (tmp_path / "packed-refs").write_bytes(packed)
    assert len(ref_stamps(tmp_path).stamps) == len(few.stamps)
