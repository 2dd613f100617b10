"""A request of a public listener: its body is measured as it streams, and kept only where it is wanted."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import server
from twisted.web.error import UnsupportedMethod

from stackit.api.admin import RequestHead, Response
from stackit.api.errors import describe, place
from stackit.http.server import responses
from stackit.http.server.interfaces import SMALL_BODY, BodySink, HeadHandler, SmallBodySink
from stackit.http.server.request_parser import Malformed, RequestParser
from stackit.http.server.responses import Refusal

if TYPE_CHECKING:
    from stackit.http.server.connection import Connection

_LARGE_PIECE = 4096

_MOST_FRAMING = 1024
"""Bytes of chunk sizes, extensions and trailers between two bytes of body."""

_FRAMING = 64 * 2**10
"""Bytes of the same that a chunked body may have in all, beside an eighth of its size: a chunk costs as much as
hashing hundreds of bytes."""

_log = Logger(namespace="stackit")


class Request:
    """What a resource renders: as much of twisted.web's request as resources here need.

    ``head`` is the request's head; ``body_sink`` what the resource returned from ``begin``; ``whole`` whether
    all of the body is here.
    """

    __slots__ = (
        "_came",
        "_framing",
        "_headers",
        "_kept",
        "_left",
        "_parser",
        "_refusal",
        "_resource",
        "_size",
        "answered",
        "body_sink",
        "channel",
        "head",
        "method",
        "path",
        "persistent",
        "uri",
        "whole",
    )

    body_sink: BodySink

    def __init__(self, channel: Connection, parser: RequestParser) -> None:
        self.channel = channel
        self.method = parser.method
        self.uri = parser.target
        self.path = path = parser.target.partition(b"?")[0]
        self.head = RequestHead(client=channel.address, method=self.method, path=path, headers=parser.headers)
        self.persistent = parser.persistent
        self.whole = parser.length == 0
        self.answered = False
        self._parser = parser
        self._left = parser.length
        self._size = 0
        self._came = 0
        self._framing = 0
        self._kept: list[bytes | bytearray] = []
        self._refusal: Refusal | None = None
        self._headers: dict[str, str] = {}
        self._resource = channel.site.getResourceFor(self)

    # -- the body -----------------------------------------------------------------

    def begin(self) -> None:
        """The head is here: decide whether the body may come."""
        try:
            begun = self._begin(self._left)
        except BaseException:  # noqa: BLE001 - whatever a resource does wrong is the end of this request alone
            _log_fault(Failure())
            self.channel.say(Refusal("failed", responses.FAILED))
            return
        if not isinstance(begun, Refusal):
            self.body_sink = begun
        elif self.whole:
            self._refusal = begun  # nothing more to come: it is answered in its turn, and the connection lives on
        else:
            self.channel.refuse(begun)

    def _begin(self, length: int | None) -> BodySink | Refusal:
        if self._resource is None:
            return responses.NOT_FOUND
        handler: HeadHandler | None = self._resource if hasattr(self._resource, "handle_head") else None
        if handler is not None:
            return handler.handle_head(self.head, length)
        return responses.TOO_LARGE if length is not None and length > SMALL_BODY else SmallBodySink()

    def receive(self, data: bytes) -> bytes:
        """Take what of ``data`` is body; returns what lies behind. Raises Malformed."""
        if self._left is None:
            self._receive_chunks(data)
            return b""
        rest = b""
        if len(data) > self._left:
            data, rest = data[: self._left], data[self._left :]
        self._left -= len(data)
        self.whole = self._left == 0
        self._take(data)
        return rest

    def _receive_chunks(self, data: bytes) -> None:
        piece = self._parser.chunks(data)
        self._came += len(data)
        self._framing = 0 if piece else self._framing + len(data)
        if self._framing > _MOST_FRAMING:
            raise Malformed
        self.whole = self._parser.ended
        if self._parser.excess:
            self.persistent = False  # nobody knows where the next request began: it has to be sent again
        if piece:
            self._take(piece)
        if not self.whole and self._came - self._size > self._most_framing() + self._size // 8:
            raise Malformed(responses.WORDY)

    def _most_framing(self) -> int:
        return _MOST_FRAMING if self.body_sink.throttled else _FRAMING

    def _take(self, piece: bytes) -> None:
        if self.channel.ended:
            return
        self._size += len(piece)
        if self._size > self.body_sink.limit:
            self.channel.refuse(responses.TOO_LARGE)
            return
        self.body_sink.update(piece)
        if self.body_sink.keep:
            self._keep(piece)
            self.channel.site.limiter.hold(self.channel, len(piece))

    def _keep(self, piece: bytes) -> None:
        # A body that came in large pieces is copied once, at its end. Small ones are not kept as such: each
        # would cost more than the bytes that a hostile sender puts in it.
        if len(piece) >= _LARGE_PIECE or not self._kept:
            self._kept.append(piece)
            return
        last = self._kept[-1]
        if isinstance(last, bytearray):
            last += piece
        else:
            self._kept.append(bytearray(piece))

    @property
    def body(self) -> bytes:
        """All of the body that was kept."""
        if len(self._kept) != 1 or isinstance(self._kept[0], bytearray):
            self._kept = [b"".join(self._kept)]
        return bytes(self._kept[0])

    @property
    def content(self) -> BytesIO:
        """The same as a file, as resources of twisted.web read it."""
        return BytesIO(self.body)

    # -- the answer ---------------------------------------------------------------

    def process(self) -> None:
        """Let the resource answer: the request is here whole."""
        try:
            if self._refusal is not None:
                self._turn_away(self._refusal)
                return
            body = self._resource.render(self)
            if body is not server.NOT_DONE_YET:
                kind = self._headers.pop("content-type", "text/html")
                self.answer(Response(body=body, content_type=kind, headers=self._headers))
        except UnsupportedMethod as problem:
            self._turn_away(responses.method(b", ".join(sorted(problem.allowedMethods)).decode("latin-1")))
        except BaseException:  # noqa: BLE001 - whatever a resource does wrong is the end of this request alone
            self.processingFailed(Failure())

    def _turn_away(self, refusal: Refusal) -> None:
        self.channel.site.refused(self.head.client, self.head, refusal)
        self.answer(refusal.response)

    def setHeader(self, name: bytes | str, value: bytes | str) -> None:
        """A header of the answer that ``render`` returns as bytes."""
        text, shown = (each.decode("latin-1") if isinstance(each, bytes) else each for each in (name, value))
        self._headers[text.lower()] = shown

    def answer(self, response: Response) -> None:
        """Answer the request; nothing happens where the peer is gone."""
        if not self.answered and not self.channel.ended:
            self.channel.answer(self, response)
            self.answered = True

    def processingFailed(self, reason: Failure) -> None:
        """One line in the log, and a 500 that says nothing, if nothing was said before."""
        _log_fault(reason)
        self.answer(responses.FAILED)


def _log_fault(reason: Failure) -> None:
    _log.error("a request failed: {problem}{place}", problem=describe(reason.value), place=place(reason.value))
