"""Requests, however the network cuts them: heads and bodies, one or several on a connection."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from stackit.http.messages import RequestHead, Response
from stackit.http.server.refusals import Refusal
from stackit.http.server.site import BoundedSite

CUTS = st.lists(st.integers(0, 3000), max_size=12)
NAMES = st.sampled_from([b"X-A", b"x-a", b"Accept", b"Connection", b"Expect", b"Content-Type", b"X-Forwarded-For"])
VALUES = st.sampled_from([b"", b"1", b"close", b"keep-alive", b" padded\t", b"\xff\xfe", b"100-continue", b"x" * 50])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
LINES = st.sampled_from(
    [b"POST / HTTP/1.1", b"GET /?x=/y HTTP/1.1", b"BREW http://a.example/ HTTP/1.1", b"PUT /no HTTP/1.1"]
)


def head(line: bytes, headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"%s\r\nHost: x\r\n" % line + b"".join(b"%s: %s\r\n" % header for header in headers)


@st.composite
def with_length(draw: st.DrawFn) -> bytes:
    body = draw(st.binary(max_size=300))
    return head(draw(LINES), draw(HEADERS)) + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    body, chunks, at = draw(st.binary(max_size=300)), b"", 0
    while at < len(body):
        size = draw(st.integers(1, 80))
        piece = body[at : at + size]
        chunks += b"%x%s\r\n%s\r\n" % (len(piece), draw(st.sampled_from([b"", b";a=b"])), piece)
        at += size
    trailer = draw(st.sampled_from([b"", b"X-Trailer: y\r\n"]))
    return (
        head(draw(LINES), draw(HEADERS)) + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailer + b"\r\n"
    )


BODILESS = st.builds(lambda line, headers: head(line, headers) + b"\r\n", LINES, HEADERS)
SENT = st.builds(
    lambda several, last: b"".join([*several, last]),
    st.lists(with_length() | BODILESS, max_size=4),
    with_length() | chunked() | BODILESS,
)
"""Requests that one connection may have: behind a chunked one, none has a certain place."""


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(SENT))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


class Recorder:
    """Answers with the body, and notes what came."""

    limit = 10_000
    keep = True
    throttled = False

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.hashed = b""

    def handle_head(self, head: RequestHead, length: int | None) -> Recorder:
        self.hashed = b""
        return self

    def update(self, chunk: bytes) -> None:
        self.hashed += chunk

    def handle_request(self, request: Any) -> None:
        head = request.head
        self.seen.append((head.method, request.target, dict(head.headers), request.body, self.hashed))
        request.answer(Response(body=request.body, content_type="application/octet-stream"))


class Transport(StringTransport):
    """In memory, with the half-close of a TCP connection."""

    bufferSize = 0
    aborted = False

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nothing: what is written is always taken."""

    def unregisterProducer(self) -> None:
        """Nothing."""

    def loseWriteConnection(self) -> None:
        """Nothing: what follows is thrown away by the connection."""


def serve(data: bytes, cuts: list[int]) -> tuple[bytes, list[Any], list[str]]:
    """Return what was answered, what the handler saw, and the reasons of refusals."""
    recorder, clock = Recorder(), Clock()
    refused: list[str] = []

    def on_refused(client: str, head: RequestHead | None, refusal: Refusal) -> None:
        refused.append(refusal.reason)

    def on_failure(failure: Any) -> None:
        raise failure.value

    site = BoundedSite({b"/": recorder}, reactor=clock, on_refused=on_refused, on_failure=on_failure, now=clock.seconds)
    connection = site.buildProtocol(None)
    transport: Any = Transport()  # type: ignore[no-untyped-call]  # one of Twisted's own tests
    connection.makeConnection(transport)
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(bounds):
        connection.dataReceived(data[begin:end])
        clock.advance(0)
    return transport.value(), recorder.seen, refused


@given(SENT, CUTS)
def test_requests_are_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    whole = serve(data, [])
    assert b" 400 " not in whole[0]
    assert serve(data, cuts) == whole
    assert serve(data, list(range(len(data)))) == whole, "byte by byte"


@given(SENT)
def test_the_body_that_is_hashed_is_the_body_that_is_kept(data: bytes) -> None:
    assert all(body == hashed for *_, body, hashed in serve(data, [])[1])


@given(damaged(), CUTS)
def test_damaged_requests_are_read_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    """As far as the first that is chunked: what comes behind it is refused, or read where it came apart."""
    whole, cut = serve(data, []), serve(data, cuts)
    until = next((n for n, (_, _, headers, *_) in enumerate(whole[1]) if b"transfer-encoding" in headers), None)
    if until is None:
        assert cut == whole
    else:
        assert cut[1][: until + 1] == whole[1][: until + 1]
