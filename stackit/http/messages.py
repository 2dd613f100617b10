"""The head of a request, and a response: what a server is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: ``body`` is JSON-able, or bytes with a ``content_type`` of their own.

    ``status`` is a final status that HTTP knows. Values of ``headers`` are Latin-1 text without control characters;
    those that frame the answer, such as ``Content-Length``, are the server's to set.
    """

    status: int = 200
    body: Any = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


def error(status: int, text: str) -> Response:
    """Return an error in the shape of every error: ``{"error": text}``."""
    return Response(status=status, body={"error": text})
