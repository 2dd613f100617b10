"""Refusals that are HTTP's own: the answers to requests that are malformed, too large, too slow or too many."""

from __future__ import annotations

import msgspec

from stackit.http.messages import Response, error

RETRY_AFTER = 5
"""Seconds after which a request that the server could not take may come again."""


class Refusal(msgspec.Struct, frozen=True):
    """An answer that turns a request away. ``reason`` is a short constant, for ``OnRefused``."""

    reason: str
    response: Response


def refusal(reason: str, status: int, text: str, **headers: str) -> Refusal:
    """Return a refusal with the body ``{"error": text}``."""
    return Refusal(reason, Response(status=status, body={"error": text}, headers=headers))


def malformed(text: str) -> Refusal:
    """``400``: the request is not HTTP/1.1."""
    return refusal("malformed", 400, text or "malformed request")


def method_not_allowed(allow: str) -> Refusal:
    """``405``: the path answers only the methods of ``allow``, such as ``GET, HEAD``."""
    return refusal("method", 405, f"this path answers {allow}", Allow=allow)


NOT_FOUND = refusal("not_found", 404, "not found")
TOO_LARGE = refusal("too_large", 413, "the body is too large")
TOO_SLOW = refusal("deadline", 408, "the request took too long")
OVERLOAD = refusal("overload", 503, "too busy", **{"Retry-After": str(RETRY_AFTER)})
FAILED = Refusal("failed", error(500, "internal error"))
