"""What a plugin sees of an HTTP request, and what it answers with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec


class RequestHead(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The head of a request, before its body is read.

    ``client`` is the address of the peer, without port. ``headers`` has lower-case names
    and every value that came, as bytes: nothing in them is verified.
    """

    client: str
    method: bytes
    path: bytes
    headers: Mapping[bytes, tuple[bytes, ...]]


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """``stackit_admit``'s no: the request is answered with ``status``.

    ``reason`` is a short constant (it becomes a metric label), ``retry_after`` whole
    seconds. With ``unless_verified`` the refusal waits for the signature: a delivery
    that verifies is taken all the same.
    """

    status: int
    reason: str
    retry_after: int | None = None
    unless_verified: bool = False


class AdminRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to an admin route that passed the admin side's protections.

    ``args`` are the parts of the path that the route names in braces, ``query`` the last
    value of each query parameter, ``body`` at most 64 KiB.
    """

    method: str
    path: str
    args: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer: ``body`` is JSON-able, or bytes with a ``content_type`` of their own."""

    status: int = 200
    body: Any = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Route(msgspec.Struct, frozen=True):
    """One admin route.

    ``path`` may hold ``{prefix}`` (served under every API prefix) and names in braces that
    match one segment each: ``{prefix}/repos/{owner}/{name}``. The handler may be async.
    """

    method: str
    path: str
    handler: Callable[[AdminRequest], Response | Awaitable[Response]]


def error(status: int, text: str) -> Response:
    """The one shape of every error: ``{"error": text}``."""
    return Response(status=status, body={"error": text})
