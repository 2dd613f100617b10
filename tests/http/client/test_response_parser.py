"""Responses, however the network cuts them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stackit.http.client.response_parser import ResponseParser
from stackit.http.parsing import Malformed

CUTS = st.lists(st.integers(0, 2000), max_size=12)
NAMES = st.sampled_from([b"X-A", b"x-a", b"Server", b"ETag", b"Connection", b"Retry-After"])
VALUES = st.sampled_from([b"", b"1", b"close", b"keep-alive", b" padded\t", b"\xff\xfe", b"x" * 50])
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
INTERIM = st.lists(
    st.sampled_from([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Oh\r\nLink: x\r\n\r\n"]), max_size=2
)
STATUSES = st.sampled_from([200, 201, 204, 304, 301, 404, 429, 500])
TRAILERS = st.sampled_from([b"", b"X-Trailer: y\r\n"])


def lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%s: %s\r\n" % header for header in headers)


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """One response in HTTP/1.1."""
    status, body = draw(STATUSES), draw(st.binary(max_size=200))
    head = b"".join(draw(INTERIM)) + b"HTTP/1.1 %d Oh\r\n" % status + lines(draw(HEADERS))
    if status in (204, 304):
        return head + b"\r\n"
    if draw(st.booleans()):
        return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    chunks, at = b"", 0
    while at < len(body):
        size = draw(st.integers(1, 80))
        piece = body[at : at + size]
        chunks += b"%x%s\r\n%s\r\n" % (len(piece), draw(st.sampled_from([b"", b";a=b"])), piece)
        at += size
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + draw(TRAILERS) + b"\r\n"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A response of which some bytes are missing, new or others."""
    data = bytearray(draw(responses()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def read(data: bytes, cuts: list[int]) -> object:
    """Return the response, ``malformed``, or None where it does not end; and whether the connection may go on."""
    parser = ResponseParser(2**20)
    bounds = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for begin, end in pairwise(bounds):
            parser.receive(data[begin:end])
            if parser.ended:
                return parser.response, parser.persistent
    except Malformed:
        return "malformed"
    return None


@given(responses(), CUTS)
def test_a_response_is_the_same_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    whole = read(data, [])
    assert isinstance(whole, tuple)
    assert read(data, cuts) == whole
    assert read(data, list(range(len(data)))) == whole, "byte by byte"


@given(damaged(), CUTS)
def test_a_damaged_response_is_as_damaged_however_it_is_cut(data: bytes, cuts: list[int]) -> None:
    def outcome(read: object) -> object:
        """Not whether the connection goes on: bytes behind the end may come later, and then end it."""
        return read[0] if isinstance(read, tuple) else read

    assert outcome(read(data, cuts)) == outcome(read(data, []))


@given(responses())
def test_what_lies_behind_a_response_ends_the_connection(data: bytes) -> None:
    whole, more = read(data, []), read(data + b"HTTP/1.1 200 OK\r\n", [])
    assert isinstance(whole, tuple)
    assert more == (whole[0], False)
