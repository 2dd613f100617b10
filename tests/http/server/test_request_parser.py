"""Heads: what is HTTP/1.1, and what is refused as malformed."""

from __future__ import annotations

import pytest
import pytest_twisted
from bounded_site import (
    POST,
    Listen,
    arrives,
)
from rawhttp import request
from twisted.logger import LogEvent

MALFORMED = {
    "no request line": b"hello\r\n\r\n",
    "two words": b"GET /\r\n\r\n",
    "http 0.9": b"GET /\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http 1.2": b"GET /echo HTTP/1.2\r\n\r\n",
    "leading space": b" GET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "double space": b"GET  /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n",
    "nul in the path": b"GET /ec\x00ho HTTP/1.1\r\nHost: x\r\n\r\n",
    "path of any bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "long path": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "endless line": b"GET /" + b"x" * 40_000,
    "header without colon": b"GET /echo HTTP/1.1\r\nHost: x\r\nhello\r\n\r\n",
    "header without name": b"GET /echo HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "header name of any bytes": b"GET /echo HTTP/1.1\r\nHost: x\r\n\xff\x00: x\r\n\r\n",
    "control characters in a header": b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\x01\x08b\r\n\r\n",
    "nul in a header": b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "bare line feed": b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\nContent-Length: 5\r\n\r\n",
    "folded header": b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "folded length": POST + b"Content-Length: 5\r\n 5\r\n\r\n",
    "many headers": b"GET /echo HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 600 + b"\r\n",
    "large headers": b"GET /echo HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X%d: " % n + b"y" * 900 + b"\r\n" for n in range(30)),
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "signed length": POST + b"Content-Length: +5\r\n\r\nhello",
    "hex length": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "5,000 digits": POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n",
    "unicode digits": POST + b"Content-Length: \xd9\xa5\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "identity and length": POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked in http 1.0": b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size of words": POST + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
    "negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
    "chunk without end": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n",
    "chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 2000,
    "endless trailers": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 12_000,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
@pytest_twisted.ensureDeferred
async def test_what_is_not_http_gets_one_400_and_nothing_in_the_log(
    listen: Listen, logged: list[LogEvent], data: bytes
) -> None:
    listening = listen()
    client = await listening.connect()
    answer = await client.send(data + (b"\r\n" if data.startswith(b"GET /\n") else b"")).answer()
    assert (answer.status, answer.json()) == (400, {"error": "malformed request"})
    assert answer.headers["connection"] == "close"
    assert await client.end() == b""
    assert listening.reasons == ["malformed"]
    assert listening.seen[0].client == "127.0.0.1"
    assert not logged
    assert (await listening.ask(request("/echo", body=b"abc"))).json()["read"] == 3


@pytest_twisted.ensureDeferred
async def test_a_head_may_have_500_headers(listen: Listen) -> None:
    listening = listen()
    for headers, status in ((499, 200), (500, 400)):  # and its Host
        answer = await listening.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * headers + b"\r\n")
        assert answer.status == status


@pytest_twisted.ensureDeferred
async def test_a_smuggled_request_is_never_seen(listen: Listen) -> None:
    listening = listen()
    client = await listening.connect()
    smuggled = request("/plain", "GET")
    client.send(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled)
    assert (await client.answer()).status == 400
    assert await client.end() == b""


@pytest_twisted.ensureDeferred
async def test_empty_lines_before_a_request_mean_nothing(listen: Listen) -> None:
    assert (await listen().ask(b"\r\n\r\n" + request("/echo", body=b"abc"))).json()["read"] == 3


HOSTS = {
    "none": b"HTTP/1.1\r\n",
    "two": b"HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
    "the same twice": b"HTTP/1.1\r\nHost: a\r\nhost: a\r\n",
    "two in http 1.0": b"HTTP/1.0\r\nHost: a\r\nHost: a\r\n",
    "a list": b"HTTP/1.1\r\nHost: a, b\r\n",
    "a path": b"HTTP/1.1\r\nHost: a/b\r\n",
    "a user": b"HTTP/1.1\r\nHost: me@a\r\n",
    "two ports": b"HTTP/1.1\r\nHost: a:1:2\r\n",
    "a port of words": b"HTTP/1.1\r\nHost: a:b\r\n",
    "open brackets": b"HTTP/1.1\r\nHost: [::1\r\n",
    "any bytes": b"HTTP/1.1\r\nHost: \xe9\r\n",
}


@pytest.mark.parametrize("head", HOSTS.values(), ids=HOSTS.keys())
@pytest_twisted.ensureDeferred
async def test_a_request_without_one_valid_host_gets_400(listen: Listen, head: bytes) -> None:
    listening = listen()
    client = await listening.connect()
    answer = await client.send(b"GET /told " + head + b"\r\n").answer()
    assert answer.status == 400
    assert "Host" in answer.json()["error"]
    assert await client.end() == b""
    assert listening.reasons == ["malformed"]


@pytest.mark.parametrize("host", [b"", b"a", b"A-b_c.example:80", b"[::1]:8080", b"192.0.2.1:", b"caf%C3%A9.example"])
@pytest_twisted.ensureDeferred
async def test_a_valid_host_may_be_any(listen: Listen, host: bytes) -> None:
    assert (await listen().ask(b"GET /told HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")).json()["host"] == host.decode()


@pytest_twisted.ensureDeferred
async def test_http_1_0_needs_no_host(listen: Listen) -> None:
    assert (await listen().ask(b"GET /plain HTTP/1.0\r\n\r\n")).body == b"hello"


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://a.example/told", "/told", "a.example"),
        (b"HTTPS://a.example:443/told?x=http://b/", "/told", "a.example:443"),
        (b"http://[::1]:80/told", "/told", "[::1]:80"),
        (b"http://a.example", "/", "a.example"),
        (b"http://a.example?x=/told", "/", "a.example"),
        (b"/told?x=http://b/", "/told", "ignored"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_target_with_an_authority_is_its_path_and_the_authority_is_the_host(
    listen: Listen, target: bytes, path: str, host: str
) -> None:
    answer = await listen().ask(b"GET " + target + b" HTTP/1.1\r\nHost: ignored\r\n\r\n")
    assert answer.json() == {"path": path, "host": host}


@pytest.mark.parametrize("target", [b"http:///told", b"http://me@a/told", b"http://a:b/told", b"http://[::1/told"])
@pytest_twisted.ensureDeferred
async def test_an_authority_that_is_none_is_malformed(listen: Listen, target: bytes) -> None:
    assert (await listen().ask(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")).status == 400


@pytest_twisted.ensureDeferred
async def test_a_request_may_come_byte_by_byte(listen: Listen) -> None:
    client = await listen().connect()
    client.transport.setTcpNoDelay(True)
    for byte in request("/echo", body=b"abc"):
        client.send(bytes([byte]))
        await arrives(client, lambda: not client.transport._tempDataBuffer)
    assert (await client.answer()).json()["read"] == 3


@pytest_twisted.ensureDeferred
async def test_an_upgrade_is_answered_as_if_it_had_not_been_asked_for(listen: Listen) -> None:
    wish = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    client = await listen().connect()
    for _ in range(2):
        client.send(request("/echo", headers=wish, body=b"abc"))
        assert (await client.answer()).json()["read"] == 3
