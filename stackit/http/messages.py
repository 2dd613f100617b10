"""The head of a request, and a response: what a server is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

import msgspec


class RequestHead(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The head of a request, before its body is read.

    ``client`` is the address of the peer, without port; ``unix`` for that of a unix socket. ``headers`` has lower-case
    names and every value that came, as bytes: nothing in them is verified.
    """

    client: str
    method: bytes
    path: bytes
    headers: Mapping[bytes, tuple[bytes, ...]]


StreamEnd = Literal["finished", "closed", "slow", "stop", "failed"]
"""Why a stream has ended: its writer finished it, the client hung up, or read too slowly, the server stops, or its
writer failed."""


class BodyStream(Protocol):
    """The body of an answer that is written bit by bit. It ends once: from then on, every call does nothing."""

    def write(self, data: bytes) -> None:
        """Write the next bytes. A client that leaves too much unread is cut, which ends the stream within this call."""

    def finish(self) -> None:
        """End the answer, and with it the connection."""

    def break_off(self) -> None:
        """End the answer as one that is not complete, which the client sees."""

    def pace(self, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        """Have a writer that can wait told when the client does not read, and when it has read all.

        It may write 64 KiB more. A client that does not read for long is cut all the same.
        """

    def when_ended(self, tell: Callable[[StreamEnd], object]) -> None:
        """Have a function called once when the stream ends, whoever ends it; at once, if it has ended."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: ``body`` is JSON-able, or bytes with a ``content_type`` of their own.

    ``status`` is a final status that HTTP knows. Values of ``headers`` are Latin-1 text without control characters;
    those that frame the answer, such as ``Content-Length``, are the server's to set. ``stream`` takes the place of
    ``body``: it is called with the stream as soon as the head has been sent, and not for a HEAD.
    """

    status: int = 200
    body: Any = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}
    stream: Callable[[BodyStream], object] | None = None


def error(status: int, text: str) -> Response:
    """Return an error in the shape of every error: ``{"error": text}``."""
    return Response(status=status, body={"error": text})
