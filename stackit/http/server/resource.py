"""A ``RequestHandler`` as a resource of twisted.web, for any ``twisted.web.server.Site``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, cast

from twisted.internet.address import UNIXAddress
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET
from twisted.web.server import Request as TwistedRequest

from stackit.http.messages import RequestHead, Response
from stackit.http.server.interfaces import OnRefused, RequestHandler
from stackit.http.server.refusals import FAILED, TOO_LARGE, Refusal
from stackit.http.server.responses import encode_body
from stackit.text.addresses import UNIX

_PIECE = 2**16


class HandlerResource(Resource):
    """Serves a handler. Such a site reads a body whole before it asks, so the handler bounds only what is kept of it.

    ``on_refused`` is told of each request that is refused before the handler had it whole, ``on_failure`` of what the
    handler raises.
    """

    isLeaf = True

    def __init__(
        self, handler: RequestHandler, *, on_refused: OnRefused, on_failure: Callable[[Failure], object]
    ) -> None:
        Resource.__init__(self)
        self._handler = handler
        self._on_refused = on_refused
        self._on_failure = on_failure

    def render(self, request: TwistedRequest) -> int:
        adapted = _AdaptedRequest(request, self._on_failure)
        try:
            refusal = self._handle(adapted)
        except BaseException:  # noqa: BLE001 - whatever a handler does wrong is the end of this request alone
            adapted.fail(Failure())
        else:
            if refusal is not None:
                self._on_refused(adapted.head.client, adapted.head, refusal)
                adapted.answer(refusal.response)
        return NOT_DONE_YET

    def _handle(self, request: _AdaptedRequest) -> Refusal | None:
        decided = self._handler.handle_head(request.head, request.length)
        if isinstance(decided, Refusal):
            return decided
        if request.length > decided.limit:
            return TOO_LARGE
        request.body_sink = decided
        for piece in request.pieces():
            decided.update(piece)
        self._handler.handle_request(request)
        return None


class _AdaptedRequest:
    """A ``ServerRequest`` of twisted.web. ``length`` is that of the body, in bytes."""

    def __init__(self, request: TwistedRequest, on_failure: Callable[[Failure], object]) -> None:
        self._request = request
        self._on_failure = on_failure
        self._over = False
        peer = request.getClientAddress()
        self.head = RequestHead(
            client=UNIX if isinstance(peer, UNIXAddress) else str(getattr(peer, "host", "local")),
            method=request.method,
            path=request.path,
            headers={name.lower(): tuple(values) for name, values in request.requestHeaders.getAllRawHeaders()},
        )
        self.target: bytes = request.uri
        self.body_sink: Any = None
        self._content = cast("BinaryIO", request.content)
        self.length: int = self._content.seek(0, 2)
        request.notifyFinish().addErrback(self._gone)

    def pieces(self) -> Iterator[bytes]:
        """Yield the body in pieces of bounded size."""
        self._content.seek(0)
        return iter(lambda: self._content.read(_PIECE), b"")

    @property
    def body(self) -> bytes:
        if not self.body_sink.keep:
            return b""
        self._content.seek(0)
        return bytes(self._content.read())

    def answer(self, response: Response) -> None:
        if self._over:
            return
        if response.stream is not None:
            raise TypeError("a handler that streams its answer needs a BoundedSite")
        body = encode_body(response)
        self._over = True
        self._request.setResponseCode(response.status)
        self._request.setHeader("Content-Type", response.content_type)
        for name, value in response.headers.items():
            self._request.setHeader(name, value.encode("latin-1"))
        self._request.setHeader("Content-Length", str(len(body)))
        self._request.write(body)
        self._request.finish()

    def fail(self, failure: Failure) -> None:
        self._on_failure(failure)
        self.answer(FAILED.response)

    def _gone(self, _: Failure) -> None:
        self._over = True
