"""The circuit breaker: a remote that speaks no protocol v2, or did not answer, is left to git for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from mirror_harness import GitHttp, Harness, Upstream, body_of, managed, pushed, refs
from twisted.internet.task import Clock
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from stackit.http.client import RemoteError, Timeouts
from stackit.plugins.mirror.remote.circuit_breaker import AFTER_FAILURE, OLD_PROTOCOL, CircuitBreaker
from stackit.plugins.mirror.remote.protocol_v2 import RESULT_TYPE, pkt_line
from stackit.testing.listening import LoopbackSite

MAIN = "refs/heads/main"


class Front(Resource):
    """In front of a remote: notes what stackit itself asks, and may answer it in the remote's place."""

    isLeaf = True

    def __init__(self, reactor: Any, remote: GitHttp) -> None:
        Resource.__init__(self)
        self._remote = remote
        self.old = False
        self.instead: Callable[[Request], Any] | None = None
        self.asked: list[str] = []
        self._site = LoopbackSite(reactor, self)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._site.port}/{name}"

    def render(self, request: Request) -> Any:
        said = body_of(request)
        direct = b"stackit" in (request.getHeader(b"user-agent") or b"")
        command = next((each for each in ("ls-refs", "fetch") if f"command={each}".encode() in said), "capabilities")
        if direct:
            self.asked.append(command)
        if self.old:
            if b"command=" in said:
                return NOT_DONE_YET  # it does not know what that is, and waits for something else
            request.requestHeaders.removeHeader("Git-Protocol")
        if direct and self.instead is not None and command != "capabilities":
            return self.instead(request)
        return self._remote.render(request)

    async def stop(self) -> None:
        await self._site.close()


class Street:
    def __init__(self, reactor: Any, folder: Path) -> None:
        self._folder = folder
        self.upstream = Upstream(folder / "served" / "upstream.git")
        self.upstream.advance()
        self._git = GitHttp(reactor, folder / "served")
        self.front = Front(reactor, self._git)
        self.harnesses: list[Harness] = []

    def open(self) -> Harness:
        """A stackit that has just started, with the mirror that the one before left."""
        harness = Harness(self._folder / "state", managed(self.front.url("upstream.git")))
        harness.told = self.harnesses[-1].told if self.harnesses else {}
        self.harnesses.append(harness)
        return harness

    async def push(self) -> None:
        harness = self.harnesses[-1]
        before, after = self.upstream.refs()[MAIN], self.upstream.advance()
        await harness.push(pushed(harness, before, after))
        assert refs(harness.path())[MAIN] == after

    async def stop(self) -> None:
        await self.harnesses[-1].stop()
        await self.front.stop()
        await self._git.stop()


@pytest_twisted.async_yield_fixture
async def street(tmp_path: Path) -> AsyncIterator[Street]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    street = Street(reactor, tmp_path)
    yield street
    await street.stop()


# -- the breaker -------------------------------------------------------------------------


@pytest.mark.parametrize("pauses", [AFTER_FAILURE, OLD_PROTOCOL])
def test_a_breaker_opens_for_growing_times_and_a_success_closes_it(pauses: tuple[float, float]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock, pauses)
    breaker.check()
    pause = pauses[0]
    for _ in range(12):
        breaker.failed("timeout")
        breaker.failed("status")  # what was under way counts once, and is not the reason
        clock.advance(pause - 0.1)
        with pytest.raises(RemoteError, match="timeout"):
            breaker.check()
        clock.advance(0.2)
        breaker.check()
        pause = min(2 * pause, pauses[1])
    breaker.failed("timeout")
    breaker.succeeded()
    breaker.check()
    breaker.failed("status")
    clock.advance(pauses[0])
    breaker.check()


# -- remotes ----------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_git_found_out_need_not_be_asked_again(street: Street) -> None:
    harness = street.open()
    await harness.worker().sync("start")
    for _ in range(2):
        street.front.asked.clear()
        await street.push()
        assert sorted(street.front.asked) == ["fetch", "ls-refs"]
    await harness.stop()
    await street.open().worker().sync("start")
    street.front.asked.clear()
    await street.push()
    assert sorted(street.front.asked) == ["fetch", "ls-refs"], "the first look has asked"


@pytest_twisted.ensureDeferred
async def test_a_remote_of_the_old_protocol_that_answers_no_command_gets_none(street: Street) -> None:
    street.front.old = True
    harness = street.open()
    await harness.worker().sync("start")
    await street.push()
    await harness.worker().sync("backstop")
    await harness.stop()
    harness = street.open()
    for _ in range(3):
        await harness.worker().sync("start")
        await street.push()
    assert street.front.asked == ["capabilities"], "once after the start, and never a command"
    assert harness.worker().state == "in_step"


def busy(request: Request) -> bytes:
    request.setHeader("content-type", RESULT_TYPE)
    return pkt_line(b"ERR upload-pack: refused due to load\n")


def failing(request: Request) -> bytes:
    request.setResponseCode(500)
    return b""


def a_page(request: Request) -> bytes:
    request.setHeader("content-type", "text/html")
    return b"<html>"


@pytest.mark.parametrize("instead", [busy, failing, a_page, lambda _: NOT_DONE_YET], ids=["ERR", "500", "page", "hang"])
@pytest_twisted.ensureDeferred
async def test_a_remote_that_does_not_answer_is_left_to_git_for_a_while_and_not_for_long(
    street: Street, instead: Any
) -> None:
    harness = street.open()
    remote, clock = harness.worker()._remote, Clock()
    for breaker in (remote._listing, remote._packing):
        breaker._reactor = clock  # however long the machine takes
    await harness.worker().sync("start")
    remote._pool.timeouts = Timeouts(answer=0.3)
    street.front.instead = instead
    await street.push()
    asked = len(street.front.asked)
    for _ in range(3):
        await street.push()
        await harness.worker().sync("backstop")
    assert len(street.front.asked) == asked, "it is not asked in vain each time"
    street.front.instead = None
    remote._pool.timeouts = Timeouts()
    clock.advance(AFTER_FAILURE[0])
    fallbacks = len(harness.named("fallback"))
    await street.push()
    assert len(harness.named("fallback")) == fallbacks, "the fast way is open again"


@pytest_twisted.ensureDeferred
async def test_a_commit_that_is_not_there_yet_opens_no_breaker(street: Street) -> None:
    harness = street.open()
    await harness.worker().sync("start")
    remote = harness.worker()._remote
    with pytest.raises(RemoteError, match="refused"):
        await remote.fetch_pack(["1" * 40], [])
    await remote.check_ready()
