"""The client that plugins get: requests by method and URL, against a server that writes any bytes it likes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from byte_server import OK, ByteServer
from certificates import Authority, server_options
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from stackit.http.client import Client, RemoteError, Timeouts, TlsFiles


class Pair:
    """A client, and the server that it asks."""

    def __init__(self) -> None:
        self.server = ByteServer(reactor)
        self.clients: list[Client] = []
        self.client = self.make()

    def make(self, **options: Any) -> Client:
        self.clients.append(Client(reactor, **options))
        return self.clients[-1]

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.server.port}{path}"

    async def stop(self) -> None:
        for client in self.clients:
            await client.close()
        await self.server.stop()


@pytest_twisted.async_yield_fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair()
    yield pair
    await pair.stop()


async def until(ready: Any) -> None:
    for _ in range(5000):
        if ready():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("waited in vain")


# -- what is asked ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_request_is_what_was_asked_for_and_no_more(pair: Pair) -> None:
    response = await pair.client.get(pair.url("/a?b=c#d"), headers={"Accept": "text/plain"})
    assert (response.status, response.body, response.header("Content-Length")) == (200, b"0000", "4")
    assert response.header("X-Missing") is None
    assert pair.server.requests == [
        b"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: text/plain\r\n\r\n" % pair.server.port
    ]


@pytest_twisted.ensureDeferred
async def test_a_body_comes_with_its_length(pair: Pair) -> None:
    await pair.client.post(pair.url("/x"), b'{"a": 1}', headers={"Content-Type": "application/json"})
    for method in ("PUT", "PATCH", "DELETE"):
        await pair.client.request(method, pair.url("/x"), body=b"")
    posted, *others = pair.server.requests
    head, _, body = posted.partition(b"\r\n\r\n")
    assert body == b'{"a": 1}'
    assert head.split(b"\r\n")[2:] == [b"Content-Type: application/json", b"Content-Length: 8"]
    assert [each.split(b" ")[0] for each in others] == [b"PUT", b"PATCH", b"DELETE"]
    assert all(b"Content-Length: 0\r\n" in each for each in others)


@pytest_twisted.ensureDeferred
async def test_any_path_becomes_one_that_can_be_sent(pair: Pair) -> None:
    await pair.client.get(pair.url("/a b/é\x7f%20?q=ü &r='"))
    assert pair.server.requests[0].startswith(b"GET /a%20b/%C3%A9%7F%20?q=%C3%BC%20&r=%27 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://host/x", "expected http"),
        ("/x", "expected http"),
        ("http:///x", "expected http"),
        ("http://me:secret@host/", "credentials do not belong"),
        ("http://a b/", "no name of a host"),
        ("http://a\r\nX: y/", "[Pp]ort"),
        ("http://host:99999/", "[Pp]ort"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_url_that_is_none_is_said_to_be_so(pair: Pair, url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        await pair.client.get(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        ("X-A", "one\r\nX-B: secret"),
        ("X-A\r\nX-B", "secret"),
        ("", "secret"),
        ("X A", "secret"),
        ("X-A", "secret\x00"),
        ("X-A", "secret €"),
        ("Content-Length", "secret"),
        ("host", "secret"),
        ("Transfer-Encoding", "secret"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_header_that_would_be_another_request_is_not_sent(pair: Pair, header: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="cannot be sent") as caught:
        await pair.client.get(pair.url(), headers=dict([header]))
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="the method must be one of GET"):
        await pair.client.request("GET / HTTP/1.1\r\n\r\nGET", pair.url())
    assert pair.server.requests == []


# -- connections ------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_connection_is_kept_for_the_next_request_to_its_host(pair: Pair) -> None:
    for number in range(5):
        await pair.client.get(pair.url(f"/{number}"))
    assert len(pair.server.peers) == 1


@pytest_twisted.ensureDeferred
async def test_a_get_is_sent_again_over_a_connection_that_was_closed_meanwhile(pair: Pair) -> None:
    await pair.client.get(pair.url())
    pair.server.answers = [lambda peer: peer.transport.loseConnection()]
    assert (await pair.client.get(pair.url())).body == b"0000"
    assert len(pair.server.requests) == 3


@pytest_twisted.ensureDeferred
async def test_a_post_never_reaches_the_host_twice(pair: Pair) -> None:
    await pair.client.get(pair.url())
    assert (await pair.client.post(pair.url(), b"x")).status == 200
    assert len(pair.server.peers) == 2, "a connection of its own"
    pair.server.answers = [lambda peer: peer.transport.loseConnection()]
    with pytest.raises(RemoteError, match="unreachable"):
        await pair.client.post(pair.url(), b"x")
    assert [each.split(b" ")[0] for each in pair.server.requests] == [b"GET", b"POST", b"POST"]


@pytest_twisted.ensureDeferred
async def test_closing_ends_what_is_under_way(pair: Pair) -> None:
    pair.server.answers = [lambda peer: None]
    asked = Deferred.fromCoroutine(pair.client.get(pair.url()))
    await until(lambda: pair.server.requests)
    await pair.client.close()
    with pytest.raises(RemoteError):
        await asked


# -- responses --------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 202, 206, 301, 302, 400, 401, 404, 429, 500, 503])
@pytest_twisted.ensureDeferred
async def test_a_response_of_any_status_is_returned_and_no_redirect_followed(pair: Pair, status: int) -> None:
    pair.server.answers = [b"HTTP/1.1 %d Oh\r\nLocation: /other\r\nContent-Length: 4\r\n\r\nsome" % status]
    response = await pair.client.get(pair.url())
    assert (response.status, response.body, response.header("location")) == (status, b"some", "/other")
    assert len(pair.server.requests) == 1


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("framing", [b"Content-Length: 200000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n30d40\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_body_over_the_limit_is_an_error(pair: Pair, status: int, framing: bytes) -> None:
    pair.server.answers = [b"HTTP/1.1 %d OK\r\n" % status + framing + b"x" * 200_000 + b"\r\n0\r\n\r\n"] * 2
    with pytest.raises(RemoteError, match="too_large"):
        await pair.client.get(pair.url(), limit=199_999)
    assert len((await pair.client.get(pair.url(), limit=200_000)).body) == 200_000


@pytest_twisted.ensureDeferred
async def test_an_error_with_a_large_body_is_known_without_it(pair: Pair) -> None:
    pair.server.answers = [b"HTTP/1.1 500 Oh\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000]
    response = await pair.client.get(pair.url())
    assert (response.status, response.body, response.too_large) == (500, b"", False)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda peer: None, "timeout"),
        (lambda peer: peer.transport.write(OK[:-1]), "timeout"),
        (lambda peer: peer.transport.loseConnection(), "unreachable"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "protocol"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", "protocol"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_no_whole_response_is_an_error_with_its_reason(pair: Pair, answer: Any, reason: str) -> None:
    client = pair.make(timeouts=Timeouts(answer=0.1 if reason == "timeout" else 60.0))
    pair.server.answers = [answer]
    with pytest.raises(RemoteError) as caught:
        await client.get(pair.url())
    assert caught.value.reason == reason


@pytest_twisted.ensureDeferred
async def test_nobody_there_is_unreachable(pair: Pair) -> None:
    await pair.server.stop()
    with pytest.raises(RemoteError, match="unreachable"):
        await pair.client.get(pair.url())


@pytest_twisted.ensureDeferred
async def test_over_tls_only_a_known_certificate_is_trusted(pair: Pair, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    options = server_options(*authority.issue("server"), None)
    port = reactor.listenSSL(0, pair.server, options, interface="127.0.0.1")
    url = f"https://127.0.0.1:{port.getHost().port}/"
    assert (await pair.make(tls_files=TlsFiles(ca_file=authority.ca)).get(url)).body == b"0000"
    with pytest.raises(RemoteError, match="unreachable"):
        await pair.client.get(url)
    assert len(pair.server.requests) == 1
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_timeouts_may_be_texts_with_a_unit(pair: Pair) -> None:
    pair.server.answers.append(lambda peer: None)
    with pytest.raises(RemoteError) as problem:
        await pair.make(timeouts=Timeouts(connect="1m", answer="0.1s", idle="5m")).get(pair.url())
    assert problem.value.reason == "timeout"
