"""One request of a connection: its body is measured as it arrives, and kept only where it is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure

from stackit.http.messages import RequestHead, Response
from stackit.http.parsing import Malformed
from stackit.http.server.interfaces import BodySink, RequestHandler
from stackit.http.server.refusals import FAILED, NOT_FOUND, TOO_LARGE, Refusal
from stackit.http.server.request_parser import RequestParser

if TYPE_CHECKING:
    from stackit.http.server.connection import Connection

_LARGE_PIECE = 4096

_MOST_FRAMING_AT_ONCE = 1024
"""Bytes of chunk sizes, extensions and trailers between two bytes of body."""

_MOST_FRAMING = 64 * 2**10
"""Bytes of the same that a chunked body may have in all, beside an eighth of its size: a chunk costs as much as
hashing hundreds of bytes."""

_TOO_MUCH_FRAMING = "the chunks of the body are too small: send larger ones, or a Content-Length"


class Request:
    """A ``ServerRequest``. ``whole`` tells whether all of the body has arrived."""

    __slots__ = (
        "_connection",
        "_framing",
        "_handler",
        "_left",
        "_parser",
        "_pieces",
        "_received",
        "_refusal",
        "_size",
        "answered",
        "body_sink",
        "head",
        "method",
        "persistent",
        "target",
        "whole",
    )

    def __init__(self, connection: Connection, parser: RequestParser) -> None:
        self.target = target = parser.target
        self.method = parser.method
        path = target.partition(b"?")[0]
        self.head = RequestHead(client=connection.address, method=self.method, path=path, headers=parser.headers)
        self.persistent = parser.persistent
        self.whole = parser.length == 0
        self.answered = False
        self.body_sink: Any = None
        self._connection = connection
        self._handler: RequestHandler | None = connection.site.find_handler(path, connection)
        self._parser = parser
        self._left = parser.length
        self._size = 0
        self._received = 0
        self._framing = 0
        self._pieces: list[bytes | bytearray] = []
        self._refusal: Refusal | None = None

    @property
    def size(self) -> int:
        """Return the bytes of the body that have arrived."""
        return self._size

    @property
    def knows_chunks(self) -> bool:
        """Return whether the client understands an answer in chunks."""
        return self._parser.http_1_1

    # -- the body -----------------------------------------------------------------

    def begin(self) -> None:
        """Have the handler decide by the head whether the body may come."""
        try:
            decided: BodySink | Refusal
            decided = NOT_FOUND if self._handler is None else self._handler.handle_head(self.head, self._left)
        except BaseException:  # noqa: BLE001 - whatever a handler does wrong is the end of this request alone
            self._connection.site.on_failure(Failure())
            self._connection.send_last(FAILED)
            return
        if not isinstance(decided, Refusal):
            self.body_sink = decided
        elif self.whole:
            self._refusal = decided  # nothing more to come: it is answered in its turn, and the connection lives on
        else:
            self._connection.refuse(decided)

    def receive(self, data: bytes) -> bytes:
        """Take the body from ``data``, and return the bytes behind it. Raises Malformed."""
        left = self._left
        if left is None:
            self._receive_chunks(data)
            return b""
        rest = b""
        if len(data) > left:
            data, rest = data[:left], data[left:]
        self._left = left = left - len(data)
        self.whole = left == 0
        self._take(data)
        return rest

    def _receive_chunks(self, data: bytes) -> None:
        piece = self._parser.read_chunks(data)
        self._received += len(data)
        self._framing = 0 if piece else self._framing + len(data)
        if self._framing > _MOST_FRAMING_AT_ONCE:
            raise Malformed
        self.whole = self._parser.ended
        if self._parser.excess:
            self.persistent = False  # where the next request began is not known: it has to be sent again
        if piece:
            self._take(piece)
        most = _MOST_FRAMING_AT_ONCE if self.body_sink.throttled else _MOST_FRAMING
        if not self.whole and self._received - self._size > most + self._size // 8:
            raise Malformed(_TOO_MUCH_FRAMING)

    def _take(self, piece: bytes) -> None:
        connection, sink = self._connection, self.body_sink
        if connection.ended:
            return  # refused meanwhile
        self._size += len(piece)
        if self._size > sink.limit:
            connection.refuse(TOO_LARGE)
            return
        sink.update(piece)
        if sink.keep:
            self._keep(piece)
            connection.site.limiter.hold(connection, len(piece))

    def _keep(self, piece: bytes) -> None:
        # A body that came in large pieces is copied once, at its end. Small ones are not kept as such: each
        # would cost more than the bytes that a hostile sender puts in it.
        if len(piece) >= _LARGE_PIECE or not self._pieces:
            self._pieces.append(piece)
            return
        last = self._pieces[-1]
        if isinstance(last, bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))

    @property
    def body(self) -> bytes:
        """All of the body that was kept."""
        if len(self._pieces) == 1:
            return bytes(self._pieces[0])
        return b"".join(self._pieces)

    # -- the answer ---------------------------------------------------------------

    def process(self) -> None:
        """Have the handler answer: the request has arrived whole."""
        try:
            if self._refusal is None and self._handler is not None:
                self._handler.handle_request(self)
            else:
                self._refuse(self._refusal or NOT_FOUND)
        except BaseException:  # noqa: BLE001 - whatever a handler does wrong is the end of this request alone
            self.fail(Failure())

    def _refuse(self, refusal: Refusal) -> None:
        self._connection.site.on_refused(self.head.client, self.head, refusal)
        self.answer(refusal.response)

    def answer(self, response: Response) -> None:
        """Send the response. Only the first counts, and none where the client is gone. Raises TypeError."""
        if not self.answered and not self._connection.ended:
            self._connection.answer(self, response)
            self.answered = True

    def fail(self, failure: Failure) -> None:
        """Report a failure, and answer with a 500 that does not show it, unless there was an answer."""
        self._connection.site.on_failure(failure)
        self.answer(FAILED.response)
