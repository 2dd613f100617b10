"""git's memory has a bound: whatever a remote sends, and however large what it sends honestly is."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, body_of, git, managed, pushed, refs
from twisted.internet.interfaces import IPullProducer
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from stackit import Size, StackitError
from stackit.plugins.mirror import MirrorSettings
from stackit.plugins.mirror.git.errors import GitError

MIB = 2**20
MAIN = "refs/heads/main"
ADVERTISEMENT = "application/x-git-upload-pack-advertisement"
RESULT = "application/x-git-upload-pack-result"


def pkt(text: bytes) -> bytes:
    return b"%04x" % (len(text) + 4) + text


@implementer(IPullProducer)
class Endless(Resource):
    """A list of refs that never ends, of which a megabyte takes a few bytes. It gives up after many gigabytes."""

    isLeaf = True

    def __init__(self, reactor: Any) -> None:
        Resource.__init__(self)
        self.sent = 0
        packer = zlib.compressobj(wbits=31)
        first = pkt(b"# service=git-upload-pack\n") + b"0000" + pkt(b"1" * 40 + b" refs/heads/a\0agent=git/2\n")
        self._first = packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH)
        block = pkt(b"2" * 40 + b" refs/heads/" + b"b" * 960 + b"\n") * 1024
        self._block = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
        self._port = reactor.listenTCP(0, Site(self), interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self._port.getHost().port}/octo/widget.git"

    def render(self, request: Request) -> int:
        request.setHeader("content-type", ADVERTISEMENT)
        request.setHeader("content-encoding", "gzip")
        request.write(self._first)
        self._request: Any = request
        request.registerProducer(self, False)
        return NOT_DONE_YET

    def resumeProducing(self) -> None:
        self.sent += 1
        if self.sent > 64 * 1024:
            self._request.transport.loseConnection()
            return
        self._request.write(self._block)

    def stopProducing(self) -> None:
        """git has gone."""

    async def stop(self) -> None:
        await self._port.stopListening()


class TooMany(GitHttp):
    """git's own server, until it claims to have more refs than anybody would read."""

    def __init__(self, reactor: Any, root: Path) -> None:
        super().__init__(reactor, root)
        self.too_many = False
        self.agents: list[str] = []

    def render(self, request: Request) -> int | bytes:
        self.agents.append(request.getHeader("user-agent") or "")
        if self.too_many and b"command=ls-refs" in body_of(request):
            request.setHeader("content-type", RESULT)
            request.setHeader("content-length", str(2**30))
            request.write(pkt(b"1" * 40 + b" refs/heads/a\n"))
            return NOT_DONE_YET
        return super().render(request)


@pytest_twisted.async_yield_fixture
async def server(upstream: Upstream) -> AsyncIterator[TooMany]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made = TooMany(reactor, upstream.directory.parent.parent)
    yield made
    await made.stop()


@pytest_twisted.async_yield_fixture
async def endless() -> AsyncIterator[Endless]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made = Endless(reactor)
    yield made
    await made.stop()


@pytest.mark.parametrize("cause", ["manual", "push"])
@pytest_twisted.ensureDeferred
async def test_a_list_of_refs_without_an_end_takes_no_more_memory_than_git_may_have(
    tmp_path: Path, endless: Endless, cause: str
) -> None:
    harness = Harness(tmp_path / "state", managed(endless.url), git_memory=128 * MIB)
    with pytest.raises(StackitError, match=r"needs more memory than it may have \(plugins\.mirror\.git_memory\)"):
        await harness.worker().sync(cause)
    assert harness.worker().state == "failing"
    assert harness.named("healed") == []
    await harness.stop()


@pytest.mark.parametrize("cause", ["backstop", "push"])
@pytest_twisted.ensureDeferred
async def test_after_an_answer_that_is_too_large_no_git_is_started(
    tmp_path: Path, upstream: Upstream, server: TooMany, cause: str
) -> None:
    harness = Harness(tmp_path / "state", managed(server.url("octo/widget.git")))
    await harness.worker().sync("start")
    before, after = upstream.refs()[MAIN], upstream.advance()
    server.too_many = True
    server.agents.clear()
    with pytest.raises(StackitError, match="the remote's list of refs is larger than stackit reads"):
        await (
            harness.worker().sync("backstop") if cause == "backstop" else harness.push(pushed(harness, before, after))
        )
    assert server.agents
    assert {agent for agent in server.agents if "stackit" not in agent} == set()
    assert harness.worker().state == "failing"
    server.too_many = False
    await harness.worker().sync("manual")
    assert refs(harness.path())[MAIN] == after
    assert harness.worker().state == "in_step"
    await harness.stop()


@pytest_twisted.ensureDeferred
async def test_a_repository_that_needs_more_memory_says_so_and_comes_when_it_has_it(
    tmp_path: Path, upstream: Upstream, server: TooMany
) -> None:
    # Several, since the limit comes a moment after git's start: on a busy machine one may be read by then.
    files = [
        (git(upstream.directory, "hash-object", "-w", "--stdin", stdin=bytes(96 * MIB + number)), number)
        for number in range(3)
    ]
    listed = "".join(f"100644 blob {blob}\tlarge-{number}\n" for blob, number in files)
    tree = git(upstream.directory, "mktree", stdin=listed.encode())
    upstream.set(MAIN, git(upstream.directory, "commit-tree", tree, "-m", "large"))
    url = server.url("octo/widget.git")
    small = Harness(tmp_path / "state", managed(url), git_memory=64 * MIB)
    with pytest.raises(StackitError, match=r"plugins\.mirror\.git_memory"):
        await small.worker().sync("manual")
    await small.stop()
    large = Harness(tmp_path / "state", managed(url), git_memory=1024 * MIB)
    await large.worker().sync("manual")
    assert large.worker().state == "in_step"
    await large.stop()
    # Where reading all of it takes more than there may be, nothing is known of its soundness.
    small = Harness(tmp_path / "state", managed(url), git_memory=64 * MIB)
    with pytest.raises(GitError, match=r"plugins\.mirror\.git_memory"):
        await small.worker()._refresher._repository.is_sound()
    await small.stop()


def test_a_limit_that_no_git_could_start_with_is_a_mistake() -> None:
    assert MirrorSettings(git_memory=Size(0)).git_memory == 0
    with pytest.raises(ValueError, match="at least 64 MiB"):
        MirrorSettings(git_memory=Size(MIB))
