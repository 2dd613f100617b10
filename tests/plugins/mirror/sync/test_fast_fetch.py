"""The fast fetch of a push, against real git: the pretend GitHub serves, a bare mirror receives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from stackit import ManagedRepo, Repo
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.remote.client import Remote
from stackit.plugins.mirror.remote.protocol_v2 import FLUSH, ProtocolError, parse_listing, pkt_line
from stackit.plugins.mirror.remote.remotes import Remotes
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.sync.fast_fetch import Fallback, FastFetch, Target
from stackit.testing import PretendGitHub
from stackit.text.redaction import redacted

MAIN = "refs/heads/main"
ZEROS = "0" * 40


class Harness:
    """A mirror of octo/widget that was cloned, and the remote that it is brought in step with."""

    def __init__(self, github: PretendGitHub, git: Git, remote: Remote, directory: Path) -> None:
        self.github = github
        self.git = git
        self.remote = remote
        self.directory = directory
        self.growth = Growth()
        disk = DiskReserve(git._reactor, directory, reserve=0)
        self.fast_fetch = FastFetch(git._reactor, git, remote, directory, disk=disk, growth=self.growth)

    async def refs(self) -> Snapshot:
        return await Repository(self.git, self.directory).refs()

    async def fetch(self, *targets: tuple[str, str]) -> Any:
        """Take the road to these refs and commits; ``refs`` are then what the mirror has."""
        before = await self.refs()
        wanted = {ref: Target(ref, ref, after) for ref, after in targets}
        changes = await self.fast_fetch.fetch(before, wanted)
        assert before.moved(changes) == await self.refs()
        await self.git.local(self.directory, "fsck", "--strict")
        return [(each.ref, each.old, each.new, each.kind, each.forced) for each in changes]


async def furnish(github: PretendGitHub, tmp_path: Path, **settings: Any) -> tuple[Harness, Remotes]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    url = await github.create("octo/widget", **settings)
    await github.commit("octo/widget", count=3)
    directory = tmp_path / "widget.git"
    (tmp_path / "home").mkdir()
    git = Git(reactor, tmp_path / "home", redacted)
    await github.git("octo/widget", "clone", "--quiet", "--mirror", str(github.path("octo/widget")), str(directory))
    token = settings.get("private_token")
    if token is not None:
        (tmp_path / "token").write_text(token)
    managed = ManagedRepo(repo=Repo("octo", "widget"), url=url, token_file=tmp_path / "token" if token else None)
    remotes = Remotes(reactor, 4)
    remote = remotes.get(managed)
    assert remote is not None
    return Harness(github, git, remote, directory), remotes


@pytest_twisted.async_yield_fixture
async def harness(pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Harness]:
    harness, remotes = await furnish(pretend_github, tmp_path)
    yield harness
    await remotes.close()


@pytest_twisted.ensureDeferred
async def test_a_pushed_commit_arrives_without_a_fetch_by_git(harness: Harness) -> None:
    moved = await harness.github.commit("octo/widget")
    assert await harness.fetch((MAIN, moved.after)) == [(MAIN, moved.before, moved.after, "updated", False)]
    # What the remote speaks is asked once, where git has not found out.
    assert sorted(each.command for each in harness.github.requests) == ["capabilities", "fetch", "ls-refs"]
    moved = await harness.github.commit("octo/widget")
    await harness.fetch((MAIN, moved.after))
    assert sorted(each.command for each in harness.github.requests[3:]) == ["fetch", "ls-refs"]


@pytest_twisted.ensureDeferred
async def test_a_new_branch_arrives(harness: Harness) -> None:
    moved = await harness.github.commit("octo/widget", "refs/heads/topic/one")
    changes = await harness.fetch(("refs/heads/topic/one", moved.after))
    assert changes == [("refs/heads/topic/one", ZEROS, moved.after, "created", False)]


@pytest_twisted.ensureDeferred
async def test_a_force_push_is_known_as_one(harness: Harness) -> None:
    moved = await harness.github.force("octo/widget")
    assert await harness.fetch((MAIN, moved.after)) == [(MAIN, moved.before, moved.after, "updated", True)]


@pytest_twisted.ensureDeferred
async def test_several_refs_move_in_one_round_trip(harness: Harness) -> None:
    one = await harness.github.commit("octo/widget", "refs/heads/one")
    two = await harness.github.commit("octo/widget", count=2)
    changes = await harness.fetch(("refs/heads/one", one.after), (MAIN, two.after))
    assert {each[0] for each in changes} == {"refs/heads/one", MAIN}
    assert len([each for each in harness.github.requests if each.command != "capabilities"]) == 2


@pytest_twisted.ensureDeferred
async def test_a_ref_that_was_pushed_again_meanwhile_goes_to_where_the_remote_is(harness: Harness) -> None:
    first = await harness.github.commit("octo/widget")
    second = await harness.github.commit("octo/widget")
    assert await harness.fetch((MAIN, first.after)) == [(MAIN, first.before, second.after, "updated", False)]


@pytest_twisted.ensureDeferred
async def test_a_remote_that_does_not_show_the_push_yet_moves_nothing(harness: Harness) -> None:
    """The commit can be had, but the ref is not there: GitHub answers from replicas."""
    moved = await harness.github.commit("octo/widget")
    await harness.github.set_ref("octo/widget", "refs/heads/other", moved.after)
    await harness.github.set_ref("octo/widget", MAIN, moved.before)
    assert await harness.fetch((MAIN, moved.after)) == []


@pytest_twisted.ensureDeferred
async def test_a_large_push_arrives_as_one_pack(harness: Harness) -> None:
    moved = await harness.github.commit("octo/widget", count=300)
    await harness.fetch((MAIN, moved.after))
    assert list((harness.directory / "objects" / "pack").glob("*.pack"))


@pytest_twisted.ensureDeferred
async def test_a_sha256_repository_takes_the_road_too(pretend_github: PretendGitHub, tmp_path: Path) -> None:
    harness, remotes = await furnish(pretend_github, tmp_path, object_format="sha256")
    moved = await pretend_github.commit("octo/widget")
    assert await harness.fetch((MAIN, moved.after)) == [(MAIN, moved.before, moved.after, "updated", False)]
    await remotes.close()


@pytest_twisted.ensureDeferred
async def test_a_private_repository_is_asked_with_its_token(pretend_github: PretendGitHub, tmp_path: Path) -> None:
    harness, remotes = await furnish(pretend_github, tmp_path, private_token="ghp_secret")
    moved = await pretend_github.commit("octo/widget")
    assert len(await harness.fetch((MAIN, moved.after))) == 1
    await remotes.close()


@pytest.mark.parametrize("oid", [b"HEAD", b"--all", b"refs/heads/main", b"-" + b"1" * 39, b"g" * 40, b"1" * 41, b""])
def test_what_a_remote_calls_an_object_id_must_be_one(oid: bytes) -> None:
    """git would also take a name, and in some places an option."""
    with pytest.raises(ProtocolError):
        parse_listing(pkt_line(oid + b" refs/heads/main\n") + FLUSH)


async def fallback(harness: Harness, *targets: tuple[str, str]) -> str:
    before = await harness.refs()
    with pytest.raises(Fallback) as fallback:
        await harness.fetch(*targets)
    assert await harness.refs() == before, "a fallback begins where nothing has moved"
    return fallback.value.reason


@pytest_twisted.ensureDeferred
async def test_a_commit_that_the_remote_does_not_have_is_refused(harness: Harness) -> None:
    assert await fallback(harness, (MAIN, "1" * 40)) == "refused"


@pytest_twisted.ensureDeferred
async def test_a_ref_that_is_gone_is_not_for_the_fast_fetch(harness: Harness) -> None:
    moved = await harness.github.commit("octo/widget", "refs/heads/short")
    await harness.github.set_ref("octo/widget", "refs/heads/keeps", moved.after)
    await harness.github.delete_ref("octo/widget", "refs/heads/short")
    assert await fallback(harness, ("refs/heads/short", moved.after)) == "gone"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [(401, "status"), (403, "status"), (404, "status"), (429, "status"), (500, "status"), ("redirect", "status")],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_none_is_a_fallback(harness: Harness, fault: Any, reason: str) -> None:
    moved = await harness.github.commit("octo/widget")
    harness.github.fault("octo/widget", fault)
    assert await fallback(harness, (MAIN, moved.after)) == reason


@pytest_twisted.ensureDeferred
async def test_an_answer_that_breaks_off_is_a_fallback(harness: Harness) -> None:
    moved = await harness.github.commit("octo/widget", count=20)
    harness.github.fault("octo/widget", "truncate")
    assert await fallback(harness, (MAIN, moved.after)) in ("unreachable", "protocol")


@pytest_twisted.ensureDeferred
async def test_a_ref_that_somebody_moved_by_hand_is_left_to_git(harness: Harness) -> None:
    known = await harness.refs()
    moved = await harness.github.commit("octo/widget")
    await harness.git.local(harness.directory, "update-ref", MAIN, f"{moved.before}~1")
    with pytest.raises(Fallback) as fallback:
        await harness.fast_fetch.fetch(known, {MAIN: Target(MAIN, MAIN, moved.after)})
    assert fallback.value.reason == "ref_lock"


@pytest_twisted.ensureDeferred
async def test_a_mirror_that_lacks_what_its_refs_need_is_left_to_git(harness: Harness) -> None:
    """The objects of the old tip are gone: the new commit cannot be connected to anything."""
    moved = await harness.github.commit("octo/widget")
    known = await harness.refs()
    for pack in (harness.directory / "objects" / "pack").iterdir():
        pack.unlink()
    for loose in (harness.directory / "objects").glob("??/*"):
        loose.unlink()
    with pytest.raises(Fallback) as fallback:
        await harness.fast_fetch.fetch(known, {MAIN: Target(MAIN, MAIN, moved.after)})
    assert fallback.value.reason in ("unconnected", "pack")
