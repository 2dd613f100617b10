"""What a resource implements to see a request before its body is read, and the body while it arrives."""

from __future__ import annotations

from typing import Protocol

from stackit.api.admin import RequestHead
from stackit.http.server.responses import Refusal

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


class HeadHandler(Protocol):
    """A resource that sees the head of a request before its body is read."""

    def handle_head(self, head: RequestHead, length: int | None) -> BodySink | Refusal:
        """Let the body come, or refuse the request.

        ``length`` is that of the body in bytes: None where the head does not tell, 0 for no body.
        """


class SmallBodySink:
    """Keeps a body of at most ``SMALL_BODY`` bytes."""

    limit = SMALL_BODY
    keep = True
    throttled = False

    def update(self, chunk: bytes) -> None:
        """Do nothing: the bytes are kept."""
