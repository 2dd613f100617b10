"""The proxy of the environment, between stackit and GitHub's API."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from transport_pair import Tls, TransportPair, problem_of, until
from tunnel_proxy import TunnelProxy
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred

from stackit.github.api.answer import NoAnswer
from stackit.github.api.proxy import Proxy, proxy_for
from stackit.http.client.tls import TlsFiles


class Behind:
    """A server over TLS, a proxy, and a transport that has it in its environment."""

    def __init__(self, directory: Path) -> None:
        self.pair = TransportPair()
        self.proxy = TunnelProxy(reactor)
        self.tls = Tls(self.pair, directory)

    async def get(self, user: str = "", **more: str) -> bytes:
        transport = self.pair.make(
            tls_files=lambda *_: TlsFiles(ca_file=self.tls.authority.ca),
            environ={"https_proxy": f"http://{user}{self.proxy.address}", **more},
        )
        return (await transport.request("GET", self.tls.url, {"Authorization": "Bearer hush"})).body

    async def stop(self) -> None:
        await self.tls.stop()
        await self.pair.stop()
        await self.proxy.stop()


@pytest_twisted.async_yield_fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    behind = Behind(tmp_path)
    yield behind
    await behind.stop()


@pytest_twisted.ensureDeferred
async def test_a_proxy_opens_a_tunnel_and_sees_nothing_of_what_goes_through_it(behind: Behind) -> None:
    assert await behind.get() == b"0000"
    target = behind.tls.url.partition("://")[2].partition("/")[0]
    assert behind.proxy.requests == [f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()]
    assert b"hush" in behind.pair.server.requests[0]


@pytest_twisted.ensureDeferred
async def test_the_user_of_a_proxy_is_told_to_the_proxy_alone(behind: Behind) -> None:
    assert await behind.get("me:p%40ss@") == b"0000"
    expected = b64encode(b"me:p@ss")
    assert b"Proxy-Authorization: Basic " + expected in behind.proxy.requests[0]
    assert expected not in behind.pair.server.requests[0]


@pytest_twisted.ensureDeferred
async def test_a_host_that_is_excepted_is_asked_directly(behind: Behind) -> None:
    assert await behind.get(no_proxy="example.org,127.0.0.1") == b"0000"
    assert behind.proxy.requests == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "it wants other credentials (status 407)"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno\n", "it opens no tunnel (status 403)"),
        (b"SSH-2.0-OpenSSH\r\n\r\n\r\n", "its answer is not HTTP/1"),
        (b"HTTP/1.1 200 " + 20_000 * b"x", "its answer has no end"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_proxy_that_refuses_is_named_as_the_cause(behind: Behind, answer: bytes, said: str) -> None:
    behind.proxy.answer = answer
    assert str(await problem_of(behind.get())) == f"the proxy of https_proxy does not lead there: {said}"
    await until(lambda: behind.proxy.lost == 1)
    assert behind.pair.server.requests == []


@pytest_twisted.ensureDeferred
async def test_a_proxy_that_says_nothing_is_left_when_the_request_is_cancelled(behind: Behind) -> None:
    behind.proxy.answer = b""
    asked = Deferred.fromCoroutine(behind.get())
    await until(lambda: behind.proxy.requests)
    asked.cancel()
    with pytest.raises(CancelledError):
        await asked
    await until(lambda: behind.proxy.lost == 1)


def test_the_environment_is_read_as_git_reads_it() -> None:
    def found(**environ: str) -> Any:
        return proxy_for("api.example.org", 443, environ)

    assert found() is None
    assert found(https_proxy="http://proxy:3128") == Proxy("proxy", 3128)
    assert found(HTTPS_PROXY="proxy") == Proxy("proxy", 1080)
    assert found(https_proxy="http://one:1", HTTPS_PROXY="http://two:2") == Proxy("one", 1)
    assert found(HTTP_PROXY="http://proxy:1", ALL_PROXY="http://proxy:1", http_proxy="http://proxy:1") is None
    assert found(https_proxy="http://proxy:1", NO_PROXY=".example.org") is None
    assert found(https_proxy="http://proxy:1", no_proxy="*") is None
    assert found(https_proxy="http://proxy:1", no_proxy="example.com") == Proxy("proxy", 1)
    for address in ("socks5://proxy:1", "https://proxy:1", "http://", "http://proxy:port"):
        with pytest.raises(NoAnswer, match="http://HOST:PORT"):
            found(https_proxy=address)
