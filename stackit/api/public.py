"""A route of the public side that a plugin brings, and a request to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from stackit.api.admin import Response

_SMALL_BODY = 64 * 2**10
_DEADLINE = 30.0


class PublicRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to a public route, from a stranger: nothing in it is verified.

    ``client`` is the address of the peer, without port; ``unix`` for that of a unix socket. ``query`` has the last
    value of each query parameter. ``headers`` has lower-case names and all values, as bytes. ``body`` is as sent.
    """

    client: str
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[bytes, tuple[bytes, ...]]
    body: bytes


class PublicRoute(msgspec.Struct, frozen=True, kw_only=True):
    """One route of the public side.

    ``path`` is exact; ``{prefix}`` at its start stands for every API prefix. ``handler`` may be async, and has
    ``deadline`` to answer, in seconds or as a text such as ``"90s"``. A body of more than ``max_body`` bytes is refused
    before the handler is called. An answer of 400 to 499 counts as a refusal, of which the rate limit allows an address
    only so many. ``plugin`` is filled in by stackit.
    """

    method: str
    path: str
    handler: Callable[[PublicRequest], Response | Awaitable[Response]]
    max_body: int = _SMALL_BODY
    deadline: float | str = _DEADLINE
    plugin: str | None = None
