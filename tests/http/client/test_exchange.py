"""One request with a connection of its own: what comes whole, what comes bit by bit, and what breaks off."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from byte_server import ByteServer
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from stackit.http.client.connector import Connector
from stackit.http.client.errors import RemoteError
from stackit.http.client.exchange import Exchange
from stackit.http.client.timeouts import Timeouts
from stackit.http.client.tls import TlsFiles

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE = 60.0
"""Seconds within which all that shall come comes, also on a busy machine."""


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[ByteServer]:
    found = ByteServer(reactor)
    yield found
    await found.stop()


async def exchange(server: ByteServer, answer: Any) -> Exchange:
    server.answers.append(answer)
    connector = Connector(reactor, ("http", "127.0.0.1", server.port), TlsFiles(), Timeouts())
    return await connector.connect(lambda: Exchange(reactor))


async def until(ready: Any) -> None:
    for _ in range(10_000):
        if ready():
            return
        await deferLater(reactor, 0.005)
    raise AssertionError("waited in vain")


class Taken:
    """What an exchange hands on."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ends: list[str] = []

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


@pytest.mark.parametrize("cut", [1, 30, 38, 42, 44])
@pytest_twisted.ensureDeferred
async def test_a_body_comes_whole_wherever_its_bytes_are_split(server: ByteServer, cut: int) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

    def answer(peer: Any) -> None:
        peer.transport.write(whole[:cut])
        deferLater(reactor, 0.02, peer.transport.write, whole[cut:])

    asking = await exchange(server, answer)
    head = await asking.head(GET, within=PATIENCE)
    assert (head.status, head.length) == (200, 5)
    await deferLater(reactor, 0.05)
    assert await asking.body(5, within=PATIENCE) == b"hello"
    assert asking.is_closed


@pytest_twisted.ensureDeferred
async def test_a_body_in_chunks_is_handed_on_as_it_comes(server: ByteServer) -> None:
    asking = await exchange(server, CHUNKED + b"3\r\none\r\n")
    head = await asking.head(GET, within=PATIENCE)
    assert head.length is None
    taken = Taken()
    asking.stream(taken.pieces.append, taken.ends.append)
    await until(lambda: taken.body == b"one")
    server.peers[0].transport.write(b"3\r\ntwo\r\n0\r\n\r\n")
    await until(lambda: taken.ends == ["complete"])
    assert taken.body == b"onetwo"


@pytest.mark.parametrize("rest", [b"", b"3\r\non", b"3\r\none\r\n", b"zz\r\n"])
@pytest_twisted.ensureDeferred
async def test_a_body_that_breaks_off_is_told_apart(server: ByteServer, rest: bytes) -> None:
    asking = await exchange(server, CHUNKED)
    await asking.head(GET, within=PATIENCE)
    taken = Taken()
    asking.stream(taken.pieces.append, taken.ends.append)
    server.peers[0].transport.write(rest)
    server.peers[0].transport.loseConnection()
    await until(lambda: taken.ends == ["broken"])
    assert b"one".startswith(taken.body)


@pytest_twisted.ensureDeferred
async def test_all_of_it_may_be_there_before_it_is_asked_for(server: ByteServer) -> None:
    for rest, end in ((b"3\r\none\r\n0\r\n\r\n", "complete"), (b"3\r\none\r\n", "broken")):

        def answer(peer: Any, rest: bytes = rest) -> None:
            peer.transport.write(CHUNKED + rest)
            peer.transport.loseConnection()

        asking = await exchange(server, answer)
        await asking.head(GET, within=PATIENCE)
        await deferLater(reactor, 0.05)
        taken = Taken()
        asking.stream(taken.pieces.append, taken.ends.append)
        await until(lambda taken=taken: taken.ends)
        assert (taken.body, taken.ends) == (b"one", [end])


@pytest_twisted.ensureDeferred
async def test_what_is_not_read_is_not_taken_from_the_system(server: ByteServer) -> None:
    """Memory is bounded by the system's buffers, whatever the sender does."""
    asking = await exchange(server, CHUNKED)
    await asking.head(GET, within=PATIENCE)
    taken = Taken()
    asking.stream(taken.pieces.append, taken.ends.append)
    asking.pause()
    piece = b"10000\r\n" + b"x" * 2**16 + b"\r\n"
    for _ in range(256):
        server.peers[0].transport.write(piece)
    await deferLater(reactor, 0.1)
    assert taken.body == b""
    asking.resume()
    server.peers[0].transport.write(b"0\r\n\r\n")
    await until(lambda: taken.ends == ["complete"])
    assert len(taken.body) == 2**24


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "timeout"),
        (lambda peer: peer.transport.loseConnection(), "unreachable"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "protocol"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_head_that_does_not_come_has_a_reason(server: ByteServer, answer: Any, reason: str) -> None:
    asking = await exchange(server, answer)
    with pytest.raises(RemoteError) as caught:
        await asking.head(GET, within=0.2 if reason == "timeout" else PATIENCE)
    assert caught.value.reason == reason
    assert asking.is_closed


@pytest.mark.parametrize(("length", "reason"), [(6, "too_large"), (5, "timeout")])
@pytest_twisted.ensureDeferred
async def test_a_body_is_bounded_in_bytes_and_in_time(server: ByteServer, length: int, reason: str) -> None:
    asking = await exchange(server, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n1234" % length)
    await asking.head(GET, within=PATIENCE)
    with pytest.raises(RemoteError) as caught:
        await asking.body(5, within=0.1 if reason == "timeout" else PATIENCE)
    assert caught.value.reason == reason


@pytest_twisted.ensureDeferred
async def test_a_host_that_vanishes_is_missed_though_nothing_is_sent(server: ByteServer) -> None:
    asking = await exchange(server, CHUNKED)
    found = asking.transport.socket
    assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    idle, each, times = (
        found.getsockopt(socket.IPPROTO_TCP, option)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    )
    assert idle + each * times == 20
    assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    asking.abort()


@pytest_twisted.ensureDeferred
async def test_who_waits_no_longer_closes_the_connection(server: ByteServer) -> None:
    asking = await exchange(server, b"")
    waiting = Deferred.fromCoroutine(asking.head(GET, within=None))
    closed: list[bool] = []
    asking.when_closed(lambda: closed.append(True))
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    assert closed == [True]
    await until(lambda: server.lost == 1)
    asking.when_closed(lambda: closed.append(True))
    assert closed == [True, True]
