"""Bodies: measured as they arrive, however they are cut."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from random import Random
from typing import Any

import pytest
import pytest_twisted
from bounded_site import (
    CHUNKED,
    POST,
    Echo,
    Listen,
)
from rawhttp import request
from twisted.internet import reactor
from twisted.internet.task import deferLater

from stackit.http.messages import RequestHead
from stackit.http.server.refusals import TOO_LARGE

SIZES = (200_000, 200_000, 5, 0, 99_999, 300_000, 16_384, 16_385, 1_000_000, 1, 70_000)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("parts", [1, 3, 50])
@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_bodies_of_all_sizes_come_as_they_were_sent_however_they_are_cut(
    listen: Listen, parts: int, ahead: bool
) -> None:
    client = await listen().connect()
    random = Random(parts)
    bodies = [random.randbytes(size) for size in SIZES]
    for number, body in enumerate(bodies):
        # Heads of several lengths, and all but the last with a body that is shorter or longer than the one before.
        sent = request("/spacious", headers={"X-Padding": "x" * (number % 3)}, body=body)
        cuts = sorted(random.sample(range(1, len(sent)), parts - 1))
        for begin, end in pairwise([0, *cuts, len(sent)]):
            client.send(sent[begin:end])
            if not ahead:
                await deferLater(reactor, 0)
        if not ahead:
            assert (await client.answer()).json() == hashlib.sha256(body).hexdigest()
    if ahead:
        answers = [(await client.answer()).json() for _ in bodies]
        assert answers == [hashlib.sha256(body).hexdigest() for body in bodies]


@pytest_twisted.ensureDeferred
async def test_a_length_over_the_limit_is_refused_before_the_body(listen: Listen) -> None:
    class Picky(Echo):
        def handle_head(self, head: RequestHead, length: int | None) -> Any:
            return TOO_LARGE if (length or 0) > 1000 else super().handle_head(head, length)

    listening = listen()
    listening.site._routes[b"/echo"] = Picky()
    client = await listening.connect()
    client.send(POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.answer()).status == 413
    assert await client.end() == b""
    assert listening.reasons == ["too_large"]


@pytest_twisted.ensureDeferred
async def test_100_continue_is_sent_where_the_body_will_be_read(listen: Listen) -> None:
    client = await listen().connect()
    client.send(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.answer()).status == 100
    assert (await client.send(b"hello").answer()).json()["read"] == 5


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_is_counted_as_it_comes(listen: Listen) -> None:
    listening = listen()
    client = await listening.connect()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    client.send(b"3;ext=1\r\nabc\r\n" + b"1\r\nd\r\n" * 7 + b"0\r\nTrailer: x\r\n\r\n")
    assert (await client.answer()).json() == {"hashed": 10, "read": 10}
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n")
    client.send((b"64\r\n" + b"x" * 100 + b"\r\n") * 20)
    assert (await client.answer()).status == 413
    assert listening.reasons == ["too_large"]


@pytest_twisted.ensureDeferred
async def test_the_chunks_of_one_read_are_one_piece(listen: Listen, echo: Echo) -> None:
    body = b"".join(b"1\r\n%c\r\n" % letter for letter in b"x" * 900)
    assert (await listen().ask(CHUNKED + body + b"0\r\n\r\n")).json() == {"hashed": 900, "read": 900}
    assert echo.sinks[0].pieces < 50


@pytest.mark.usefixtures("passing")
@pytest.mark.parametrize("seed", range(8))
@pytest_twisted.ensureDeferred
async def test_chunks_of_all_sizes_come_as_they_were_sent_however_they_are_cut(listen: Listen, seed: int) -> None:
    listening, random = listen(), Random(seed)
    client = await listening.connect()
    for last in (False, False, True):
        body = random.randbytes(random.randrange(1, 200_000))
        chunks, at = [], 0
        while at < len(body):
            size = random.choice((1, 7, 900, 5000, 70_000))
            chunks.append(b"%x\r\n%s\r\n" % (len(body[at : at + size]), body[at : at + size]))
            at += size
        sent = CHUNKED.replace(b"/echo", b"/spacious") + b"".join(chunks) + b"0\r\n\r\n"
        cuts = sorted(random.sample(range(1, len(sent)), 20))
        for begin, end in pairwise([0, *cuts, len(sent)]):
            client.send(sent[begin:end])
            await deferLater(reactor, 0)
        if last:
            client.transport.loseWriteConnection()
        assert (await client.answer()).json() == hashlib.sha256(body).hexdigest()
    assert await client.end() == b""


@pytest.mark.parametrize(("size", "status"), [(1, 400), (10, 400), (30, 400), (64, 200), (1000, 200), (100_000, 200)])
@pytest_twisted.ensureDeferred
async def test_a_large_body_comes_in_chunks_that_are_worth_it(listen: Listen, size: int, status: int) -> None:
    listening = listen()
    client = await listening.connect()
    client.send(CHUNKED.replace(b"/echo", b"/spacious"))
    client.send(b"%x\r\n%s\r\n" % (size, b"x" * size) * (2_000_000 // size) + b"0\r\n\r\n")
    answer = await client.answer()
    assert answer.status == status
    if status == 400:
        assert "chunks" in answer.json()["error"]
        assert listening.reasons == ["malformed"]


@pytest_twisted.ensureDeferred
async def test_a_small_body_may_come_in_any_chunks(listen: Listen) -> None:
    body = b"".join(b"1\r\n%c\r\n" % letter for letter in b"x" * 10_000)
    answer = await listen().ask(CHUNKED.replace(b"/echo", b"/spacious") + body + b"0\r\n\r\n")
    assert answer.json() == hashlib.sha256(b"x" * 10_000).hexdigest()


@pytest_twisted.ensureDeferred
async def test_what_was_sent_ahead_behind_a_chunked_body_has_to_be_sent_again(listen: Listen) -> None:
    listening = listen()
    client = await listening.connect()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + request("/plain", "GET"))
    answer = await client.answer()
    assert (answer.json()["read"], answer.headers["connection"]) == (3, "close")
    assert await client.end() == b""


@pytest_twisted.ensureDeferred
async def test_a_chunk_that_claims_to_be_huge_is_refused_when_it_grows_too_large(listen: Listen) -> None:
    client = await listen().connect()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + b"x" * 2000)
    assert (await client.answer()).status == 413
