"""One connection: its order, its turns, its deadlines, and a client that closes its half."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import pytest_twisted
from bounded_site import (
    LARGE,
    POST,
    Echo,
    Listen,
    arrives,
)
from rawhttp import Listening, request
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from stackit.http.server.connection import DRAIN_TIME
from stackit.http.server.state import State


@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_a_connection_serves_many_requests_in_order(listen: Listen) -> None:
    client = await listen().connect()
    client.send(b"".join(request("/echo", body=b"x" * size) for size in range(50)))
    assert [(await client.answer()).json()["read"] for _ in range(50)] == list(range(50))
    client.send(request("/echo", headers={"Connection": "close"}, body=b"x"))
    assert (await client.answer()).headers["connection"] == "close"
    assert await client.end() == b""


@pytest_twisted.ensureDeferred
async def test_a_long_head_after_a_large_body_is_not_read_in_pieces_as_short_as_the_head_before(listen: Listen) -> None:
    listening = listen()
    client = await listening.connect()
    assert (await client.send(request("/spacious", body=b"x" * 20_000)).answer()).status == 200
    connection: Any = next(iter(listening.site.limiter))
    assert connection.transport.bufferSize < 100
    long_head = request("/spacious", headers={"X-Padding": "x" * 8000}, body=b"x")
    client.send(long_head[:4000])
    await arrives(client, lambda: bool(connection._buffer))
    assert connection.transport.bufferSize > 8000
    assert (await client.send(long_head[4000:]).answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_peer_that_goes_between_head_and_body_leaves_nothing(listen: Listen) -> None:
    listening = listen()
    client = await listening.connect()
    large = request("/spacious", body=b"x" * 200_000)
    assert (await client.send(large).answer()).status == 200
    head = large[: large.index(b"\r\n\r\n") + 4]
    client.send(head)
    await arrives(client, lambda: any(each.head is not None for each in listening.site._connections))
    client.transport.loseConnection()
    await client.closed
    await arrives(client, lambda: len(listening.site.limiter) == 0)


@pytest_twisted.ensureDeferred
async def test_who_closes_their_half_behind_a_request_gets_the_answer(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen()
    client = await listening.connect()
    client.send(request("/echo", body=b"abc")).transport.loseWriteConnection()
    await arrives(client, lambda: any(each._half_closed for each in listening.site._connections))
    echo.gate.callback(None)
    answer = await client.answer()
    assert (answer.json()["read"], answer.headers["connection"]) == (3, "close")
    assert await client.end() == b""
    await arrives(client, lambda: not listening.site._connections)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_all_that_was_sent_before_a_half_was_closed_is_answered(listen: Listen, echo: Echo, gated: bool) -> None:
    listening = listen()
    gate: Deferred[None] = Deferred()
    if gated:
        echo.gate = gate
    client = await listening.connect()
    sent = b"".join(request("/echo", body=b"x" * size) for size in range(9)) + request("/large", "GET")
    client.send(sent).transport.loseWriteConnection()
    if gated:
        await arrives(client, lambda: any(each.state is State.HANDLING for each in listening.site._connections))
        gate.callback(None)
    assert [(await client.answer()).json()["read"] for _ in range(9)] == list(range(9))
    assert (await client.answer()).body == LARGE
    assert await client.end() == b""
    await arrives(client, lambda: not listening.site._connections)


@pytest.mark.parametrize("sent", [b"", b"POST /ec", request("/echo", headers={"Content-Length": "9"}) + b"abc"])
@pytest_twisted.ensureDeferred
async def test_a_half_that_is_closed_in_the_middle_ends_the_connection_without_a_word(
    listen: Listen, sent: bytes
) -> None:
    listening = listen()
    for before in (b"", request("/echo", body=b"x")):
        client = await listening.connect()
        client.send(before + sent).transport.loseWriteConnection()
        if before:
            assert (await client.answer()).status == 200
        assert await client.end() == b""
    await arrives(client, lambda: not listening.site._connections)
    assert listening.seen == []
    assert listening.site.limiter.held == 0


@pytest_twisted.ensureDeferred
async def test_http_1_0_has_its_answer_and_then_the_connection_ends(listen: Listen) -> None:
    client = await listen().connect()
    client.send(b"POST /echo HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc")
    answer = await client.answer()
    assert (answer.json()["read"], answer.headers["connection"]) == (3, "close")
    assert await client.end() == b""


@pytest_twisted.ensureDeferred
async def test_requests_that_come_together_are_answered_in_turn_with_those_of_others(
    listen: Listen, clock: Clock, echo: Echo
) -> None:
    listening = listen()
    client = await listening.connect()
    client.send(request("/echo", body=b"x") * 100)
    await arrives(client, lambda: bool(echo.sinks))
    assert (await listening.ask(request("/plain", "GET"))).status == 200
    assert len(echo.sinks) == 8  # and the rest when the reactor comes round again
    clock.advance(0)
    for _ in range(100):
        assert (await client.answer()).status == 200


@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_what_comes_behind_requests_that_wait_for_their_turn_is_read_in_its_own(listen: Listen) -> None:
    client = await listen().connect()
    for _ in range(20):
        client.send(request("/echo", body=b"x" * 900) * 50)
        await deferLater(reactor, 0)
    for _ in range(1000):
        assert (await client.answer()).json()["read"] == 900
    assert (await client.send(request("/plain", "GET")).answer()).body == b"hello"


@pytest_twisted.ensureDeferred
async def test_a_sender_that_goes_on_sending_can_read_its_refusal(listen: Listen, clock: Clock) -> None:
    listening = listen()
    client = await listening.connect()
    client.send(request("/nowhere", headers={"Content-Length": "100000000"}))
    client.send(b"x" * 300_000)
    assert (await client.answer()).status == 404
    await client.end()
    assert len(listening.site.limiter) == 0
    clock.advance(DRAIN_TIME)
    assert len(listening.seen) == 1


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST",
        POST,
        POST + b"Content-Length: 9\r\n\r\nhell",
    ],
    ids=["idle", "in the request line", "in the headers", "in the body"],
)
@pytest_twisted.ensureDeferred
async def test_a_request_that_is_not_whole_by_its_deadline_is_cut(listen: Listen, clock: Clock, begun: bytes) -> None:
    listening = listen(deadline=30)
    client = await listening.connect()
    await arrives(client, lambda: len(listening.site.limiter) == 1)
    for _ in range(29):
        clock.advance(1)
    client.send(begun)
    if begun.endswith(b"hell"):
        await arrives(client, lambda: listening.site.limiter.held == 4)
    assert not client.received
    clock.advance(1)
    answer = await client.answer()
    assert (answer.status, answer.json()) == (408, {"error": "the request took too long"})
    await client.end()
    assert listening.reasons == ["deadline"]


def _holds(listening: Listening, size: int) -> bool:
    return listening.site.limiter.held == size


@pytest_twisted.ensureDeferred
async def test_dripping_does_not_prolong_the_deadline(listen: Listen, clock: Clock, echo: Echo) -> None:
    listening = listen(deadline=30)
    client = await listening.connect()
    client.send(POST + b"Content-Length: 900\r\n\r\n")
    for dripped in range(29):
        client.send(b"x")
        await arrives(client, partial(_holds, listening, dripped + 1))
        clock.advance(1)
    assert not client.received
    clock.advance(1)
    assert (await client.answer()).status == 408
    assert echo.sinks[0].size == 29


@pytest_twisted.ensureDeferred
async def test_each_request_of_a_connection_has_a_deadline_of_its_own(listen: Listen, clock: Clock) -> None:
    listening = listen(deadline=30)
    client = await listening.connect()
    for _ in range(3):
        clock.advance(20)
        assert (await client.send(request("/echo", body=b"x")).answer()).status == 200
    clock.advance(29)
    client.send(b"POST /echo HTT")
    await arrives(client, lambda: any(each._buffer for each in listening.site._connections))
    clock.advance(29)
    assert not client.received
    clock.advance(1)
    assert (await client.answer()).status == 408


@pytest_twisted.ensureDeferred
async def test_a_connection_that_idles_between_requests_is_closed_without_a_word(listen: Listen, clock: Clock) -> None:
    listening = listen(deadline=30)
    client = await listening.connect()
    await client.send(request("/echo", body=b"x")).answer()
    clock.advance(30)
    assert await client.end() == b""
    assert listening.seen == []


@pytest_twisted.ensureDeferred
async def test_a_whole_request_may_wait_longer_than_the_deadline(listen: Listen, clock: Clock, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen(deadline=30)
    client = await listening.connect()
    client.send(request("/echo", body=b"x"))
    await arrives(client, lambda: any(each.state is State.HANDLING for each in listening.site._connections))
    clock.advance(300)
    echo.gate.callback(None)
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_peer_that_stays_after_its_last_answer_is_thrown_out(listen: Listen, clock: Clock) -> None:
    listening = listen()
    client = await listening.connect()
    client.transport.stopReading()
    client.send(b"nonsense\r\n")
    await arrives(client, lambda: bool(listening.seen))
    assert len(listening.site._connections) == 1
    clock.advance(DRAIN_TIME)
    await arrives(client, lambda: not listening.site._connections)


@pytest_twisted.ensureDeferred
async def test_requests_sent_ahead_wait_outside(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen()
    client = await listening.connect()
    client.send(request("/echo", body=b"x") * 100_000)
    await arrives(client, lambda: any(each._buffer for each in listening.site._connections))
    (connection,) = listening.site._connections
    assert len(connection._buffer) < 200_000
    client.transport.abortConnection()
    await client.closed


@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_who_does_not_read_the_answers_gets_no_more_of_them(listen: Listen) -> None:
    listening = listen()
    client = await listening.connect()
    client.transport.stopReading()
    client.send(request("/plain", "GET") * 300_000)
    await arrives(client, lambda: any(each._write_paused for each in listening.site._connections))
    (connection,) = listening.site._connections
    assert len(connection._buffer) < 200_000
    client.transport.startReading()
    for _ in range(20):
        assert (await client.answer()).body == b"hello"
    client.transport.abortConnection()
    await client.closed


@pytest_twisted.ensureDeferred
async def test_an_answer_that_the_socket_takes_in_pieces_comes_whole_and_before_the_next(listen: Listen) -> None:
    listening = listen()
    client = await listening.connect()
    client.send(request("/large", "GET") + request("/plain", "GET"))
    assert (await client.answer()).body == LARGE
    assert (await client.answer()).body == b"hello"
