"""The interface of a handler of requests: it sees a request's head, then takes the body, then answers."""

from __future__ import annotations

from typing import Any, Protocol

from twisted.python.failure import Failure

from stackit.http.messages import RequestHead, Response
from stackit.http.server.refusals import Refusal

SMALL_BODY = 64 * 2**10
"""Bytes of body that a ``SmallBodySink`` takes."""


class BodySink(Protocol):
    """Takes the body of one request, piece by piece, as it arrives.

    ``limit``: bytes that the body may have; a larger one is refused with 413. ``keep``: whether the pieces are kept,
    too, to be read as ``request.body``. ``throttled``: whether the sender is likely to be refused anyway. Its body is
    read in small pieces, and its chunks may have less framing.
    """

    limit: int
    keep: bool
    throttled: bool

    def update(self, chunk: bytes) -> None:
        """Take the next piece."""


class ServerRequest(Protocol):
    """A request that has arrived whole. ``target`` is the path with its query.

    ``body_sink`` is what ``handle_head`` returned, ``body`` all of the body if that keeps it.
    """

    head: RequestHead
    target: bytes
    body_sink: Any

    @property
    def body(self) -> bytes:
        """The body as it came, without the framing of chunks."""

    def answer(self, response: Response) -> None:
        """Send the response. Only the first counts, and none where the client is gone."""

    def fail(self, failure: Failure) -> None:
        """Report a failure, and answer with a 500 that does not show it."""


class RequestHandler(Protocol):
    """Answers the requests of one path. Whatever a method raises costs the client a 500, and is reported."""

    def handle_head(self, head: RequestHead, length: int | None) -> BodySink | Refusal:
        """Let the body come, or refuse the request before it is read.

        ``length`` is that of the body in bytes: None where the head does not tell, 0 for no body.
        """

    def handle_request(self, request: ServerRequest) -> None:
        """Answer a request that has arrived whole, now or later, by ``request.answer``."""


class OnRefused(Protocol):
    """Is told of each request that was refused before its handler had it whole."""

    def __call__(self, client: str, head: RequestHead | None, refusal: Refusal) -> None:
        """``client`` is an address; ``head`` is None where none could be read."""


class SmallBodySink:
    """Keeps a body of at most ``SMALL_BODY`` bytes."""

    limit = SMALL_BODY
    keep = True
    throttled = False

    def update(self, chunk: bytes) -> None:
        """Do nothing: the bytes are kept."""
