"""The common part of the parsers of requests and of responses: headers, lengths and chunked bodies, read by llhttp.

llhttp, the parser of Node, comes with httptools. It is strict about what matters where a proxy may read the same bytes
another way: line ends, white space, lengths that repeat or contradict.
"""

from __future__ import annotations

from typing import TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, HttpResponseParser

Llhttp: TypeAlias = HttpRequestParser | HttpResponseParser


class Malformed(Exception):
    """The bytes are not a message of HTTP/1.1. ``detail`` tells the peer why; it may be empty."""

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class MessageParser:
    """One message: its head in one piece, and a chunked body as it comes. A body with a length needs no parser.

    ``headers`` have lower-case names, and every value that came. ``ended`` is set at the end of a chunked body, and
    ``excess`` where something came behind it: where a next message begins there is not known.
    """

    __slots__ = (
        "_chunks",
        "_chunks_of_body",
        "_head_ended",
        "_keep_alive",
        "_llhttp",
        "ended",
        "excess",
        "headers",
        "on_body",
    )

    def __init__(self) -> None:
        self.headers: dict[bytes, tuple[bytes, ...]] = {}
        self.ended = False
        self.excess = False
        self._head_ended = False
        self._keep_alive = False
        self._chunks: list[bytes] = []
        self._chunks_of_body = 0  # how many of them are of this message, once it has ended
        self.on_body = self._chunks.append  # httptools calls it for each chunk, however small
        self._llhttp: Llhttp | None = None

    def read_chunks(self, data: bytes) -> bytes:
        """Read more of a chunked body, and return what ``data`` holds of it, in one piece. Raises Malformed."""
        try:
            self._feed(data)
        except Malformed:
            if not self.ended:
                raise
            self.excess = True
        chunks = self._chunks
        body = b"".join(chunks[: self._chunks_of_body] if self.ended else chunks)
        chunks.clear()
        if self.ended:
            self._llhttp = None
        return body

    def _parse_head(self, llhttp: Llhttp, head: bytes) -> None:
        """Read a head, which goes to the end of the empty line. Raises Malformed."""
        self._llhttp = llhttp
        self._feed(head)
        if not self._head_ended:
            raise Malformed

    def _content_length(self) -> int | None:
        """Return the length that the head tells, in bytes; None where it tells none."""
        lengths = self.headers.get(b"content-length")
        return None if lengths is None else int(lengths[0])  # llhttp takes one alone, and only digits

    def _is_chunked(self, *, http_1_1: bool) -> bool:
        """Return whether the body comes in chunks. Raises Malformed for any other transfer coding."""
        encodings = self.headers.get(b"transfer-encoding")
        if encodings is None:
            return False
        if not http_1_1 or len(encodings) != 1 or encodings[0].lower() != b"chunked":
            raise Malformed
        return True

    def _feed(self, data: bytes) -> None:
        assert self._llhttp is not None  # noqa: S101 - for the type checker
        try:
            self._llhttp.feed_data(data)
        except HttpParserUpgrade:
            return  # no other protocol is spoken here: the message is read as if it had not mentioned one
        except HttpParserError:
            raise Malformed from None

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_ended:
            return  # a trailer must not pass for a header: what the head decided was decided without it
        name, values = name.lower(), (value.strip(b" \t"),)
        headers = self.headers
        headers[name] = headers[name] + values if name in headers else values

    def on_headers_complete(self) -> None:
        self._head_ended = True
        if self._llhttp is not None:
            self._keep_alive = self._llhttp.should_keep_alive()

    def on_message_begin(self) -> None:
        self.excess = self.ended

    def on_message_complete(self) -> None:
        if not self.ended:
            self.ended, self._chunks_of_body = True, len(self._chunks)
