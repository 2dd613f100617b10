"""A clone of a mirror checks something out, whatever the remote's HEAD is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, git, managed, pushed, refs

from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.remote.protocol_v2 import FLUSH, parse_listing, pkt_line
from stackit.plugins.mirror.repository.head import choose_head

MAIN = "refs/heads/main"
ALL = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    upstream = Upstream(tmp_path / "served" / "upstream.git")
    for _ in range(3):
        upstream.advance()
    for name in ("a", "release/1", "release/2"):
        upstream.advance(f"refs/heads/{name}")
    return upstream


class Street:
    def __init__(self, reactor: Any, folder: Path, upstream: Upstream) -> None:
        self.upstream = upstream
        self.server = GitHttp(reactor, folder / "served")
        self._folder = folder
        self._houses: list[Harness] = []

    def open(self, **more: Any) -> Harness:
        self._houses.append(Harness(self._folder / "state", managed(self.server.url("upstream.git"), **more)))
        return self._houses[-1]

    def checked_out(self) -> tuple[str, str]:
        """The branch and the commit that a clone of the mirror has checked out."""
        mirror, clone = self._houses[-1].path(), self._folder / f"clone{len(self.server.asked)}"
        git(self._folder, "clone", "--quiet", str(mirror), str(clone))
        return git(clone, "rev-parse", "--symbolic-full-name", "HEAD"), git(clone, "rev-parse", "HEAD")

    async def stop(self) -> None:
        for harness in self._houses:
            await harness.stop()
        await self.server.stop()


@pytest_twisted.async_yield_fixture
async def street(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Street]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    street = Street(reactor, tmp_path, upstream)
    yield street
    await street.stop()


def detach(upstream: Upstream, commit: str) -> str:
    oid = git(upstream.directory, "rev-parse", commit)
    git(upstream.directory, "update-ref", "--no-deref", "HEAD", oid)
    return oid


async def is_settled(street: Street, harness: Harness) -> bool:
    """Return True if a quick check finds the mirror equal by one request, and a push comes by a fast fetch."""
    await harness.worker().sync("backstop")
    asked = len(street.server.asked)
    await harness.worker().sync("backstop")
    looked = len(street.server.asked) - asked
    assert harness.worker().state == "in_step"
    fallbacks = len(harness.named("fallback"))
    before, after = street.upstream.refs()["refs/heads/release/1"], street.upstream.advance("refs/heads/release/1")
    await harness.push(pushed(harness, before, after, ref="refs/heads/release/1"))
    return looked == 1 and len(harness.named("fallback")) == fallbacks


@pytest.mark.parametrize(
    ("commit", "branch"),
    [("release/2", "refs/heads/release/2"), ("main", MAIN), ("main~1", MAIN), ("a", "refs/heads/a")],
)
@pytest_twisted.ensureDeferred
async def test_where_the_remotes_head_is_at_a_commit_the_branch_there_is_taken(
    street: Street, commit: str, branch: str
) -> None:
    detach(street.upstream, commit)
    harness = street.open()
    await harness.worker().sync("start")
    assert street.checked_out() == (branch, street.upstream.refs()[branch])
    assert await is_settled(street, harness)


@pytest_twisted.ensureDeferred
async def test_where_the_refspecs_leave_the_default_branch_out_another_is_taken(street: Street) -> None:
    harness = street.open(refspecs=("+refs/heads/release/*:refs/heads/release/*",))
    await harness.worker().sync("start")
    assert street.checked_out() == ("refs/heads/release/1", street.upstream.refs()["refs/heads/release/1"])
    assert await is_settled(street, harness)


@pytest_twisted.ensureDeferred
async def test_where_the_default_branch_does_not_exist_another_is_taken_until_it_does(street: Street) -> None:
    git(street.upstream.directory, "symbolic-ref", "HEAD", "refs/heads/none")
    harness = street.open()
    await harness.worker().sync("start")
    assert street.checked_out()[0] == MAIN
    assert await is_settled(street, harness)
    street.upstream.advance("refs/heads/none")
    await harness.worker().sync("backstop")
    assert street.checked_out()[0] == "refs/heads/none"


@pytest_twisted.ensureDeferred
async def test_where_the_default_branch_is_deleted_head_moves_before_it_goes(street: Street) -> None:
    harness = street.open()
    await harness.worker().sync("start")
    street.upstream.delete(MAIN)
    await harness.worker().sync("manual")
    assert MAIN not in refs(harness.path())
    assert street.checked_out()[0] == "refs/heads/a"
    assert await is_settled(street, harness)
    assert any("HEAD names refs/heads/a now" in (each.reason or "") for each in harness.named("notice"))


@pytest_twisted.ensureDeferred
async def test_a_head_that_comes_and_goes_is_followed(street: Street) -> None:
    harness = street.open()
    await harness.worker().sync("start")
    detach(street.upstream, "release/2")
    await harness.worker().sync("backstop")
    assert street.checked_out()[0] == "refs/heads/release/2"
    git(street.upstream.directory, "symbolic-ref", "HEAD", "refs/heads/a")
    await harness.worker().sync("backstop")
    assert street.checked_out()[0] == "refs/heads/a"


def test_what_is_there_and_as_likely_is_kept() -> None:
    """Else HEAD would go to and fro between branches at one commit."""
    tip = "1" * 40
    found = Listing({f"refs/heads/{name}".encode(): tip for name in ("a", "b", "master")}, None, tip=tip)
    have = Snapshot.from_refs(found.refs)
    assert choose_head(ALL, found, have, "refs/heads/b") == "refs/heads/b"
    assert choose_head(ALL, found, have, "refs/heads/gone") == "refs/heads/master"
    assert choose_head(ALL, found, have, None) == "refs/heads/master"
    assert choose_head(ALL, Listing(found.refs, None), have, "refs/heads/a") == "refs/heads/a"
    assert choose_head(ALL, Listing({}, None), Snapshot(), "refs/heads/a") is None
    assert choose_head(("+refs/tags/*:refs/tags/*",), found, Snapshot(), None) is None
    elsewhere = ("+refs/heads/*:refs/remotes/origin/*",)
    landed = Snapshot.from_refs({b"refs/remotes/origin/a": tip})
    assert choose_head(elsewhere, Listing({b"refs/heads/a": tip}, b"refs/heads/none"), landed, MAIN) == (
        "refs/remotes/origin/a"
    )


def test_the_commit_that_head_is_at_is_read() -> None:
    said = pkt_line(b"1" * 40 + b" HEAD\n") + pkt_line(b"1" * 40 + b" refs/heads/a\n") + FLUSH
    assert (parse_listing(said).head, parse_listing(said).tip) == (None, "1" * 40)
