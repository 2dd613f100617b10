"""Remotes that the fast fetch cannot use, and remotes that lie: the fallbacks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import ZERO, GitHttp, Harness, Upstream, body_of, git, managed, pushed, refs
from twisted.internet.defer import Deferred
from twisted.web.http import Request
from twisted.web.resource import Resource

from stackit import StackitError
from stackit.plugins.mirror.remote.protocol_v2 import FLUSH, pkt_line
from stackit.testing.listening import LoopbackSite

MAIN = "refs/heads/main"


class Between(Resource):
    """In front of a remote; a test may have it spoil what goes through."""

    isLeaf = True

    def __init__(self, reactor: Any, remote: GitHttp) -> None:
        Resource.__init__(self)
        self._remote = remote
        self.version = True
        self.pack: bytes | None = None
        self.asked: list[str] = []
        self._site = LoopbackSite(reactor, self)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._site.port}/{name}"

    def render(self, request: Request) -> Any:
        said = body_of(request)
        direct = b"agent=stackit" in said
        self.asked.append("stackit" if direct else "git")
        if direct and self.pack is not None and b"command=fetch" in said:
            request.setHeader("content-type", "application/x-git-upload-pack-result")
            return pkt_line(b"packfile\n") + pkt_line(b"\1" + self.pack) + FLUSH
        if not self.version:
            request.requestHeaders.removeHeader("Git-Protocol")
        return self._remote.render(request)

    async def stop(self) -> None:
        await self._site.close()


def gits_in(mirror: Path) -> list[bytes]:
    """The gits that run in a mirror."""
    listed = subprocess.run(["/bin/ps", "-eo", "args"], capture_output=True, check=True).stdout
    return [line for line in listed.splitlines() if b"--git-dir=" + os.fsencode(mirror) in line]


class Street:
    """A mirror, its remote, and what stands between them."""

    def __init__(self, harness: Harness, upstream: Upstream, between: Between) -> None:
        self.harness = harness
        self.upstream = upstream
        self.between = between

    @property
    def fallbacks(self) -> list[str | None]:
        return [each.reason for each in self.harness.named("fallback")]

    async def push(self, new: str, ref: str = MAIN) -> None:
        before = refs(self.harness.path()).get(ref)
        await self.harness.push(pushed(self.harness, before or ZERO, new, ref))

    def content(self, text: str, *parents: str) -> tuple[str, str, str]:
        """A commit on no branch yet, its tree, and a file that only it has."""
        blob = git(self.upstream.directory, "hash-object", "-w", "--stdin", stdin=text.encode())
        tree = git(self.upstream.directory, "mktree", stdin=f"100644 blob {blob}\tfile\n".encode())
        listed = [part for parent in parents for part in ("-p", parent)]
        return git(self.upstream.directory, "commit-tree", tree, "-m", text, *listed), tree, blob

    def pack_of(self, *oids: str) -> bytes:
        """A pack of exactly these objects."""
        command = ["/usr/bin/git", "-C", os.fspath(self.upstream.directory), "pack-objects", "--stdout", "-q"]
        return subprocess.run(command, input="\n".join(oids).encode(), capture_output=True, check=True).stdout


@pytest_twisted.async_yield_fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    upstream = Upstream(tmp_path / "served" / "upstream.git")
    git(upstream.directory, "config", "uploadpack.allowAnySHA1InWant", "true")
    upstream.advance()
    remote = GitHttp(reactor, tmp_path / "served")
    between = Between(reactor, remote)
    harness = Harness(tmp_path / "state", managed(between.url("upstream.git")))
    await harness.worker().sync("start")
    between.asked.clear()
    yield Street(harness, upstream, between)
    await harness.stop()
    await between.stop()
    await remote.stop()


@pytest_twisted.ensureDeferred
async def test_an_honest_remote_needs_no_git_to_be_asked(street: Street) -> None:
    for _ in range(3):
        await street.push(street.upstream.advance())
        assert refs(street.harness.path()) == street.upstream.refs() == street.harness.told["octo/widget"]
    assert set(street.between.asked) == {"stackit"}
    assert street.fallbacks == []
    git(street.harness.path(), "fsck", "--strict")


@pytest.mark.parametrize("lacking", ["file", "folder", "parent"])
@pytest_twisted.ensureDeferred
async def test_a_pack_that_lacks_something_moves_nothing(street: Street, lacking: str) -> None:
    """The remote has it all, and gives it to git, which is then asked."""
    parent, *below = street.content("parent", street.upstream.refs()[MAIN])
    new, tree, blob = street.content("new", parent)
    parts = {"file": [blob], "folder": [tree], "parent": [parent, *below]}
    sent = {new, tree, blob, parent, *below} - set(parts[lacking])
    street.between.pack = street.pack_of(*sent)
    street.upstream.set(MAIN, new)
    await street.push(new)
    assert street.fallbacks == ["unconnected"]
    assert refs(street.harness.path()) == street.upstream.refs() == street.harness.told["octo/widget"]
    git(street.harness.path(), "fsck", "--strict")


@pytest_twisted.ensureDeferred
async def test_what_lies_in_the_mirror_without_its_links_is_not_taken_for_whole(street: Street) -> None:
    """First a folder without its file, for which the push is refused; then a commit with just this folder.

    A push that is refused leaves nothing behind, but a fetch by somebody's hand may have left the folder.
    """
    old = street.upstream.refs()[MAIN]
    first, tree, blob = street.content("the same", old)
    (street.upstream.directory / "objects" / blob[:2] / blob[2:]).rename(street.upstream.directory / "hidden")
    street.upstream.set(MAIN, first)
    street.between.pack = street.pack_of(first, tree)
    with pytest.raises(StackitError):
        await street.push(first)
    assert not (street.harness.path() / "objects" / tree[:2] / tree[2:]).exists()
    entries = git(street.upstream.directory, "ls-tree", tree)
    assert git(street.harness.path(), "mktree", "--missing", stdin=f"{entries}\n".encode()) == tree
    second = git(street.upstream.directory, "commit-tree", tree, "-m", "second", "-p", old)
    street.upstream.set(MAIN, second)
    street.between.pack = street.pack_of(second)
    with pytest.raises(StackitError):
        await street.push(second)
    assert street.fallbacks[0] == "unconnected"
    assert "unconnected" in street.fallbacks[1:]
    assert refs(street.harness.path()) == {MAIN: old}


@pytest_twisted.ensureDeferred
async def test_a_commit_that_is_not_what_was_asked_for_moves_nothing(street: Street) -> None:
    new, *_ = street.content("new", street.upstream.refs()[MAIN])
    other, tree, blob = street.content("other", street.upstream.refs()[MAIN])
    street.upstream.set(MAIN, new)
    street.between.pack = street.pack_of(other, tree, blob)
    await street.push(new)
    assert street.fallbacks == ["unconnected"]
    assert refs(street.harness.path()) == street.upstream.refs()


@pytest_twisted.ensureDeferred
async def test_a_pack_of_rubbish_leaves_no_git_waiting(street: Street) -> None:
    new = street.upstream.advance()
    street.between.pack = b"PACK" + bytes(60)
    await street.push(new)
    assert refs(street.harness.path()) == street.upstream.refs()
    assert gits_in(street.harness.path()) == []


@pytest_twisted.ensureDeferred
async def test_a_remote_of_the_old_protocol_is_asked_by_git_for_what_was_pushed_alone(street: Street) -> None:
    street.between.version = False
    for number in range(3):
        street.upstream.advance("refs/heads/other")  # nobody says so
        await street.push(street.upstream.advance())
        assert street.fallbacks == ["protocol"] * (number + 1)
    shown = refs(street.harness.path())
    assert shown == {MAIN: street.upstream.refs()[MAIN]} == street.harness.told["octo/widget"]
    assert street.between.asked.count("stackit") == 2, "it is not asked in vain each time"
    assert [change.kind for _, changes, *_ in street.harness.announcements for change in changes] == [
        "created",
        *["updated"] * 3,
    ]


@pytest_twisted.ensureDeferred
async def test_by_git_a_force_push_and_a_new_branch_are_told_exactly_too(street: Street) -> None:
    street.between.version = False
    old = street.upstream.refs()[MAIN]
    forced = street.upstream.commit()
    street.upstream.set(MAIN, forced)
    await street.push(forced)
    made = street.upstream.advance("refs/heads/topic/one")
    await street.push(made, "refs/heads/topic/one")
    changes = [each for _, changes, *_ in street.harness.announcements[1:] for each in changes]
    assert [(each.ref, each.old, each.new, each.kind, each.forced) for each in changes] == [
        (MAIN, old, forced, "updated", True),
        ("refs/heads/topic/one", ZERO, made, "created", False),
    ]


@pytest_twisted.ensureDeferred
async def test_where_the_pushed_ref_alone_does_not_do_all_are_fetched(street: Street) -> None:
    """A branch has become a folder of branches, which only the list of all refs tells."""
    street.between.version = False
    street.upstream.advance("refs/heads/topic")
    await street.harness.worker().sync("manual")
    street.upstream.delete("refs/heads/topic")
    await street.push(street.upstream.advance("refs/heads/topic/one"), "refs/heads/topic/one")
    assert street.fallbacks == ["protocol", "fetch"]
    assert refs(street.harness.path()) == street.upstream.refs() == street.harness.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_a_ref_that_somebody_deletes_meanwhile_is_told_of_as_well(street: Street) -> None:
    """In the mirror, by hand: nothing that is known of the other refs counts any more."""
    street.between.version = False
    street.upstream.advance("refs/heads/other")
    await street.harness.worker().sync("manual")
    git(street.harness.path(), "update-ref", "-d", "refs/heads/other")
    worker = street.harness.worker()
    assert await worker._announcer.announce_only(["refs/heads/other"], "push", None)
    assert refs(street.harness.path()) == street.harness.told["octo/widget"]


@pytest_twisted.ensureDeferred
async def test_a_remote_that_is_not_http_is_asked_for_what_was_pushed_alone(tmp_path: Path) -> None:
    upstream = Upstream(tmp_path / "upstream")
    old = upstream.advance()
    harness = Harness(tmp_path / "state", managed(upstream))
    await harness.worker().sync("start")
    upstream.advance("refs/heads/other")
    new = upstream.advance()
    await harness.push(pushed(harness, old, new))
    assert refs(harness.path()) == {MAIN: new} == harness.told["octo/widget"]
    assert [each.reason for each in harness.named("fallback")] == ["not_http"]
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_push_of_very_many_refs_is_one_fetch_of_all(street: Street) -> None:
    new = street.upstream.advance()
    names = [f"refs/heads/branch-{number}" for number in range(60)]
    for name in names:
        street.upstream.set(name, new)
    pushes = [Deferred.fromCoroutine(street.push(new, name)) for name in names]
    for push in pushes:
        await push
    assert refs(street.harness.path()) == street.upstream.refs() == street.harness.told["octo/widget"]
    assert "many_refs" in street.fallbacks
