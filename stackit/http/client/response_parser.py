"""How a remote's answer is read: the head by llhttp, through httptools; a body with a length needs no parser.

What is not exactly one answer in HTTP/1.1, with an end that can be told from a connection that broke off, is
refused: git asks again, and is more patient.
"""

from __future__ import annotations

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

HEAD_LIMIT = 32 * 1024
"""Bytes that the heads of an answer may have, interim ones (1xx) included."""
ERROR_LIMIT = 64 * 1024
"""Bytes of the body of an error that are read, so that the connection can be kept."""
_WORDINESS = 4
"""Bytes that a chunked answer may have for each of its body's: beyond, it is chunk extensions and trailers."""


class Malformed(Exception):
    """It is not an answer as HTTP/1.1 has them."""


class ResponseParser:
    """One answer that is being read; ``limit`` is how many bytes its body may have.

    Once ``ended``: ``status``, ``headers`` (lower-case names, and every value that came), and ``body``, which is
    whole but for a ``too_large`` one, and for an error whose body is not worth waiting for. ``persistent`` tells
    whether the connection may have another request.
    """

    def __init__(self, limit: int) -> None:
        self.status = 0
        self.headers: dict[bytes, tuple[bytes, ...]] = {}
        self.began = False
        self.ended = False
        self.persistent = False
        self.too_large = False
        self._limit = limit
        self._length: int | None = None
        self._head: bytes | None = b""
        self._heads = 0
        self._head_ended = False
        self._keep_alive = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._raw = 0
        self._parser: HttpResponseParser | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)

    def receive(self, data: bytes) -> None:
        """Read on, until ``ended``. Raises Malformed."""
        self.began = True
        while self._head is not None:
            head = self._head + data
            end = head.find(b"\r\n\r\n") + 4
            if self._heads + (len(head) if end < 4 else end) > HEAD_LIMIT:
                raise Malformed
            if end < 4:
                self._head = head
                return
            self._heads += end
            self._head, data = b"", head[end:]
            self._read_head(head[:end])
            if self.status >= 200:
                self._head = None
        if self._length is not None:
            self._read_body(data, self._length)
        elif not self.ended:
            self._read_chunks(data)
        self._judge()

    def _read_head(self, head: bytes) -> None:
        self.headers = {}
        self._head_ended = self.ended = False
        self._parser = parser = HttpResponseParser(self)
        self._feed(parser, head)
        version = parser.get_http_version()
        if not self._head_ended or version not in ("1.0", "1.1"):
            raise Malformed
        self.status = parser.get_status_code()
        self.ended = False  # what llhttp says of an answer without a body is said below
        if 100 <= self.status < 200 and self.status != 101:
            return
        self.persistent = self._keep_alive and version == "1.1"
        self._limit = self._limit if self.status == 200 else ERROR_LIMIT
        encodings, lengths = self.headers.get(b"transfer-encoding"), self.headers.get(b"content-length", ())
        if self.status in (204, 304):
            self._length = 0
        elif encodings is None and len(lengths) == 1 and len(lengths[0]) < 16:
            self._length = int(lengths[0])  # llhttp has seen to it that it is a number
        elif encodings is not None:
            if version != "1.1" or [each.lower() for each in encodings] != [b"chunked"]:
                raise Malformed
        elif self.status == 200:
            raise Malformed  # its end would be that of the connection, which may also break off
        else:
            self._give_up()
        if self.status == 200 and self.headers.get(b"content-encoding", (b"identity",)) != (b"identity",):
            raise Malformed  # nobody asked for it
        if encodings is None:
            self._parser = None

    def _read_body(self, data: bytes, length: int) -> None:
        missing = length - self._size
        if len(data) > missing:
            data = data[:missing]
            self.persistent = False  # whose bytes those behind it are, nobody knows
        self._keep(data)
        self.ended = self._size == length

    def _read_chunks(self, data: bytes) -> None:
        assert self._parser is not None  # noqa: S101 - for the type checker
        self._raw += len(data)
        try:
            self._feed(self._parser, data)
        except Malformed:
            if not self.ended:
                raise
            self.persistent = False  # as above
        if self._raw > _WORDINESS * self._size + HEAD_LIMIT:
            raise Malformed

    def _judge(self) -> None:
        """Whether to wait for the rest."""
        if max(self._size, self._length or 0) > self._limit:
            self.too_large = self.status == 200
            self._give_up()
        if self.ended:
            self._parser = None

    def _give_up(self) -> None:
        self._pieces.clear()
        self.ended = True
        self.persistent = False

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._pieces.append(data)

    def _feed(self, parser: HttpResponseParser, data: bytes) -> None:
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            raise Malformed from None

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_ended:  # else it is a trailer, which must not pass for a header
            name = name.lower()
            self.headers[name] = (*self.headers.get(name, ()), value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        self._head_ended = True
        if self._parser is not None:
            self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self.ended:
            self._keep(body)

    def on_message_begin(self) -> None:
        if self.ended:
            self.persistent = False  # a second answer, to nothing that was asked

    def on_message_complete(self) -> None:
        self.ended = True
