"""Answers that are written bit by bit: their framing, and every way in which one ends."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from bounded_site import LARGE, Listen, Streaming, arrives
from rawhttp import Client, Listening, request
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stackit.http.server.connection import DRAIN_TIME
from stackit.http.server.stream import MOST_UNREAD

STREAM = request("/stream", method="GET")
LAST = b"0\r\n\r\n"


async def opened(listening: Listening, streaming: Streaming, data: bytes = STREAM) -> Client:
    """A client whose stream has begun."""
    before = len(streaming.streams)
    client = (await listening.connect()).send(data)
    await arrives(client, lambda: len(streaming.streams) > before and b"\r\n\r\n" in client.received)
    return client


@pytest_twisted.ensureDeferred
async def test_a_stream_goes_out_in_chunks_as_it_is_written(listen: Listen, streaming: Streaming) -> None:
    client = await opened(listen(), streaming)
    head, _, rest = client.received.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert b"Connection: close" in head
    assert b"Content-Length" not in head
    assert rest == b""
    stream = streaming.streams[0]
    stream.write(b"one")
    await arrives(client, lambda: client.received.endswith(b"3\r\none\r\n"))
    stream.write(b"")  # would be read as the end
    stream.write(b"x" * 26)
    stream.finish()
    assert (await client.end()).endswith(b"1a\r\n" + b"x" * 26 + b"\r\n" + LAST)
    stream.write(b"too late")
    stream.finish()
    assert streaming.ends == ["finished"]
    late: list[str] = []
    stream.when_ended(late.append)
    assert late == ["finished"]


@pytest_twisted.ensureDeferred
async def test_a_client_of_http_1_0_gets_no_chunks(listen: Listen, streaming: Streaming) -> None:
    client = await opened(listen(), streaming, b"GET /stream HTTP/1.0\r\n\r\n")
    streaming.streams[0].write(b"one")
    streaming.streams[0].finish()
    head, _, rest = (await client.end()).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding" not in head
    assert rest == b"one"


@pytest_twisted.ensureDeferred
async def test_head_begins_no_stream(listen: Listen, streaming: Streaming) -> None:
    client = await listen().connect()
    received = await client.send(request("/stream", method="HEAD")).end()
    assert received.startswith(b"HTTP/1.1 200")
    assert received.endswith(b"\r\n\r\n")
    assert streaming.streams == []


@pytest_twisted.ensureDeferred
async def test_what_is_sent_behind_the_request_is_thrown_away(listen: Listen, streaming: Streaming) -> None:
    listening = listen()
    client = await opened(listening, streaming, STREAM + request("/plain", method="GET"))
    client.send(request("/plain", method="GET") * 100)
    streaming.streams[0].write(b"one")
    await arrives(client, lambda: client.received.endswith(b"one\r\n"))
    assert b"hello" not in client.received
    client.transport.loseConnection()
    await arrives(client, lambda: streaming.ends == ["closed"])


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection", "loseWriteConnection"])
@pytest_twisted.ensureDeferred
async def test_a_client_that_hangs_up_ends_its_stream(listen: Listen, streaming: Streaming, how: str) -> None:
    listening = listen()
    client = await opened(listening, streaming)
    getattr(client.transport, how)()
    await arrives(client, lambda: streaming.ends == ["closed"] and not listening.site._connections)
    assert len(listening.site.limiter) == 0


@pytest_twisted.ensureDeferred
async def test_one_who_does_not_read_is_cut_and_nothing_is_held_for_them(listen: Listen, streaming: Streaming) -> None:
    listening = listen()
    client = await opened(listening, streaming)
    client.transport.pauseProducing()
    connection: Any = next(iter(listening.site._connections))
    stream, piece = streaming.streams[0], LARGE[: 2**14]
    for _ in range(10_000):
        stream.write(piece)
        held = len(connection.transport.dataBuffer) + connection.transport._tempDataLen
        assert held <= MOST_UNREAD + 4 * len(piece) + 10_000
        if streaming.ends:
            break
    assert streaming.ends == ["slow"]
    client.transport.resumeProducing()
    assert not (await client.end()).endswith(LAST), "it is not told that this is all"


@pytest_twisted.ensureDeferred
async def test_one_who_reads_late_gets_everything(listen: Listen, streaming: Streaming, clock: Clock) -> None:
    listening = listen(deadline=5.0)
    client = await opened(listening, streaming, b"GET /stream HTTP/1.0\r\n\r\n")
    connection: Any = next(iter(listening.site._connections))
    sent = 0
    for _ in range(3):
        client.transport.pauseProducing()
        while not connection._write_paused:
            streaming.streams[0].write(LARGE[: 2**14])
            sent += 2**14
        client.transport.resumeProducing()
        await arrives(client, lambda: not connection._write_paused)
        clock.advance(6)
    streaming.streams[0].finish()
    assert len((await client.end()).partition(b"\r\n\r\n")[2]) == sent
    assert streaming.ends == ["finished"]


@pytest_twisted.ensureDeferred
async def test_a_writer_that_waits_for_its_client_never_loses_it(listen: Listen, streaming: Streaming) -> None:
    client = await opened(listen(), streaming)
    stream, told, sent = streaming.streams[0], [], 0
    stream.pace(lambda: told.append("pause"), lambda: told.append("resume"))
    for _ in range(3):
        client.transport.pauseProducing()
        while told[-1:] != ["pause"]:
            stream.write(LARGE[: 2**16])
            sent += 2**16
        stream.write(LARGE[: 2**16])  # what was on its way
        sent += 2**16
        client.transport.resumeProducing()
        await arrives(client, lambda: told[-1] == "resume")
    stream.finish()
    assert (await client.end()).endswith(LAST)
    assert told == ["pause", "resume"] * 3
    assert streaming.ends == ["finished"]


@pytest_twisted.ensureDeferred
async def test_a_writer_that_comes_while_its_client_does_not_read_is_told_to_wait(
    listen: Listen, streaming: Streaming
) -> None:
    listening = listen()
    client = await opened(listening, streaming)
    client.transport.pauseProducing()
    connection: Any = next(iter(listening.site._connections))
    while not connection._write_paused:
        streaming.streams[0].write(LARGE[: 2**14])
    told: list[str] = []
    streaming.streams[0].pace(lambda: told.append("pause"), lambda: told.append("resume"))
    assert told == ["pause"]
    client.transport.abortConnection()
    await arrives(client, lambda: streaming.ends == ["closed"])
    streaming.streams[0].pace(lambda: told.append("pause"), lambda: told.append("resume"))
    assert told == ["pause"]


@pytest_twisted.ensureDeferred
async def test_a_stream_that_is_broken_off_is_not_taken_for_whole(listen: Listen, streaming: Streaming) -> None:
    client = await opened(listen(), streaming)
    streaming.streams[0].write(b"one")
    await arrives(client, lambda: client.received.endswith(b"one\r\n"))
    streaming.streams[0].break_off()
    assert not (await client.end()).endswith(LAST)
    assert streaming.ends == ["failed"]


@pytest_twisted.ensureDeferred
async def test_one_who_reads_nothing_for_the_deadline_is_cut(
    listen: Listen, streaming: Streaming, clock: Clock
) -> None:
    listening = listen(deadline=5.0)
    client = await opened(listening, streaming)
    clock.advance(60)
    assert streaming.ends == [], "nothing was written that could be read"
    client.transport.pauseProducing()
    connection: Any = next(iter(listening.site._connections))
    while not connection._write_paused:
        streaming.streams[0].write(LARGE[: 2**14])
    clock.advance(4)
    assert streaming.ends == []
    clock.advance(2)
    assert streaming.ends == ["slow"]


@pytest_twisted.ensureDeferred
async def test_a_stop_ends_streams_at_once_and_begins_none(listen: Listen, streaming: Streaming, clock: Clock) -> None:
    listening = listen()
    client = await opened(listening, streaming)
    waiting = await listening.connect()
    await arrives(waiting, lambda: len(listening.site._connections) == 2)
    assert listening.site.count_requests() == 1, "the stream is no request that a stop waits for"
    over = listening.site.wind_down(10, idle=1)
    assert streaming.ends == ["stop"]
    assert (await client.end()).endswith(LAST)
    waiting.send(STREAM)
    assert (await waiting.end()).endswith(LAST)
    assert streaming.ends == ["stop", "stop"]
    await over


@pytest_twisted.ensureDeferred
async def test_a_writer_that_fails_is_reported_and_the_client_does_not_wait(
    listen: Listen, streaming: Streaming, failures: list[Failure]
) -> None:
    streaming.fault = RuntimeError("broken writer")
    client = (await listen().connect()).send(STREAM)
    assert not (await client.end()).endswith(LAST)
    assert [str(each.value) for each in failures] == ["broken writer"]
    assert streaming.ends == ["failed"]


@pytest_twisted.ensureDeferred
async def test_who_is_told_of_the_end_and_fails_costs_nobody_else(
    listen: Listen, streaming: Streaming, failures: list[Failure]
) -> None:
    client = await opened(listen(), streaming)

    def broken(_: str) -> None:
        raise RuntimeError("broken end")

    streaming.streams[0].when_ended(broken)
    streaming.streams[0].when_ended(streaming.ends.append)
    streaming.streams[0].finish()
    await client.end()
    assert [str(each.value) for each in failures] == ["broken end"]
    assert streaming.ends == ["finished", "finished"]


@pytest_twisted.ensureDeferred
async def test_a_stream_whose_client_leaves_its_last_bytes_is_closed(
    listen: Listen, streaming: Streaming, clock: Clock
) -> None:
    listening = listen()
    client = await opened(listening, streaming)
    client.transport.pauseProducing()
    connection: Any = next(iter(listening.site._connections))
    while not connection._write_paused:
        streaming.streams[0].write(LARGE[: 2**14])
    streaming.streams[0].finish()
    clock.advance(DRAIN_TIME + 1)
    await arrives(client, lambda: not listening.site._connections)
