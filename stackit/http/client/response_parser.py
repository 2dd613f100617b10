"""The parser of responses. It takes only what is exactly one response, with an end that can be told from that of a
connection which broke off.
"""

from __future__ import annotations

from httptools import HttpResponseParser

from stackit.http.client.response import Response
from stackit.http.parsing import Malformed, MessageParser

HEAD_LIMIT = 32 * 1024
"""Bytes that the heads of a response may have, interim ones (1xx) included."""
ERROR_LIMIT = 64 * 1024
"""Bytes of the body of an error that are read, so that the connection can be kept."""
_LONGEST_LENGTH = 10**15
_FRAMING_FACTOR = 4
"""Bytes that a chunked response may have for each of its body's: beyond, it is chunk extensions and trailers."""


class ResponseParser(MessageParser):
    """One response. ``began`` is set at its first byte, ``ended`` at its end.

    ``persistent`` tells whether the connection may have another request then.
    """

    __slots__ = (
        "_body_limit",
        "_buffer",
        "_head_size",
        "_length",
        "_limit",
        "_pieces",
        "_received",
        "_size",
        "_too_large",
        "began",
        "persistent",
        "status",
    )

    def __init__(self, limit: int) -> None:
        """``limit``: bytes that the body of a success (2xx) may have."""
        super().__init__()
        self.status = 0
        self.began = False
        self.persistent = False
        self._limit = limit
        self._body_limit = limit
        self._buffer: bytes | None = b""  # the beginning of a head; None behind the last
        self._head_size = 0
        self._length: int | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._received = 0
        self._too_large = False

    @property
    def response(self) -> Response:
        """The response, once ``ended``."""
        return Response(self.status, self.headers, b"".join(self._pieces), self._too_large)

    @property
    def has_head(self) -> bool:
        """True once the head is read."""
        return self._buffer is None

    @property
    def length(self) -> int | None:
        """The length of the body by its head, in bytes; None for one in chunks."""
        return self._length

    def take(self) -> bytes:
        """Return what came of the body since the last call; ``response`` is without it then."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken

    def receive(self, data: bytes) -> None:
        """Read on, until ``ended``. Raises Malformed."""
        self.began = True
        if self._buffer is not None:
            rest = self._receive_heads(self._buffer + data)
            if rest is None:
                return
            data = rest
        if self._length is not None:
            self._receive_body(data, self._length)
        elif not self.ended:
            self._receive_chunks(data)
        if max(self._size, self._length or 0) > self._body_limit:
            self._too_large = self._is_success
            self._give_up()

    def _receive_heads(self, data: bytes) -> bytes | None:
        """Read heads to the end of the last, and return what lies behind; None where that is still to come."""
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if self._head_size + (len(data) if end < 4 else end) > HEAD_LIMIT:
                raise Malformed
            if end < 4:
                self._buffer = data
                return None
            self._head_size += end
            self._read_head(data[:end])
            data = data[end:]
            if self.status >= 200:
                self._buffer = None
                return data

    def _read_head(self, head: bytes) -> None:
        self.headers = {}
        self._head_ended = False
        llhttp = HttpResponseParser(self)
        self._parse_head(llhttp, head)
        self.ended = False  # llhttp may say so of a response without a body: here that is said by the framing
        version = llhttp.get_http_version()
        self.status = llhttp.get_status_code()
        if version not in ("1.0", "1.1") or self.status == 101:  # no other protocol was asked for
            raise Malformed
        if self.status >= 200:
            self.persistent = self._keep_alive and version == "1.1"
            self._frame_body(http_1_1=version == "1.1")

    def _frame_body(self, *, http_1_1: bool) -> None:
        """Decide by the head where the body ends."""
        if not self._is_success:
            self._body_limit = ERROR_LIMIT
        elif self.headers.get(b"content-encoding", (b"identity",)) != (b"identity",):
            raise Malformed  # none was asked for
        length = self._content_length()
        if self.status in (204, 304):
            self._length = 0
        elif self._is_chunked(http_1_1=http_1_1):
            return
        elif length is not None and length < _LONGEST_LENGTH:
            self._length = length
        elif self._is_success:
            raise Malformed  # its end would be that of the connection, which may also break off
        else:
            self._give_up()
        self._llhttp = None

    @property
    def _is_success(self) -> bool:
        return 200 <= self.status < 300

    def _receive_body(self, data: bytes, length: int) -> None:
        missing = length - self._size
        if len(data) > missing:
            data = data[:missing]
            self.persistent = False  # what lies behind answers nothing that was asked
        self._keep(data)
        self.ended = self._size == length

    def _receive_chunks(self, data: bytes) -> None:
        self._received += len(data)
        self._keep(self.read_chunks(data))
        if self.excess:
            self.persistent = False  # as above
        if self._received > _FRAMING_FACTOR * self._size + HEAD_LIMIT:
            raise Malformed

    def _keep(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._body_limit:
            self._pieces.append(data)

    def _give_up(self) -> None:
        """Wait for no more of the body."""
        self._pieces.clear()
        self._llhttp = None
        self.ended = True
        self.persistent = False
