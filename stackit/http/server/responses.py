"""The answers of the public side that are always the same, and how any answer is put on the wire."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import msgspec

from stackit.api.admin import Response, error

RETRY_AFTER = 5
"""Seconds after which a request that stackit could not take may come again."""


class Refusal(msgspec.Struct, frozen=True):
    """An answer that turns a request away, and the reason that observers are told."""

    reason: str
    response: Response


def _refusal(reason: str, status: int, text: str, **headers: str) -> Refusal:
    return Refusal(reason, Response(status=status, body={"error": text}, headers=headers))


NOT_FOUND = _refusal("not_found", 404, "not found")
MALFORMED = _refusal("malformed", 400, "malformed request")
HOST = _refusal("malformed", 400, "a request has one Host header, with a name or an address (and perhaps a port)")
WORDY = _refusal("malformed", 400, "the chunks of the body are too small: send larger ones, or a Content-Length")
TOO_LARGE = _refusal("too_large", 413, "the body is too large")
TOO_SLOW = _refusal("deadline", 408, "the request took too long")
OVERLOAD = _refusal("overload", 503, "too busy", **{"Retry-After": str(RETRY_AFTER)})
FAILED = error(500, "internal error")


def method(allow: str) -> Refusal:
    """``405``: the path answers only ``allow``."""
    return Refusal(
        "method", Response(status=405, body={"error": f"this path answers {allow}"}, headers={"Allow": allow})
    )


_STARTS = {each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\nServer: stackit\r\n".encode() for each in HTTPStatus}
_NO_CONTENT = HTTPStatus.NO_CONTENT.value
_NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value
_BODILESS = (_NO_CONTENT, _NOT_MODIFIED, HTTPStatus.RESET_CONTENT.value)


def serialize(response: Response, date: bytes, *, last: bool, with_body: bool = True) -> bytes:
    """An answer as it goes out; ``last``: the connection ends after it. ``date`` is the line of ``Dates``.

    Raises TypeError for a body that is not JSON-able.
    """
    body = response.body
    if body is None or response.status in _BODILESS:  # who gets one of these would take a body for the next answer
        body = b""
    elif not isinstance(body, bytes):
        body = msgspec.json.encode(body) + b"\n"
    head = _head(response.status, response.content_type, last) + date
    if response.headers:
        head += "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()]).encode("latin-1")
    if response.status in (_NO_CONTENT, _NOT_MODIFIED):  # neither has a length
        return head + b"\r\n"
    return b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body if with_body else b"")


@lru_cache(maxsize=256)
def _head(status: int, content_type: str, last: bool) -> bytes:
    """The lines that many answers share."""
    kind = "" if status == _NO_CONTENT else f"Content-Type: {content_type}\r\n"
    end = "Connection: close\r\n" if last else ""
    return _STARTS[status] + f"{kind}{end}".encode("latin-1")


class Dates:
    """The ``Date`` of answers, as a line. ``now`` returns seconds since the epoch."""

    __slots__ = ("_line", "_now", "_second")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        """The line of this second, which is formatted once."""
        second = int(self._now())
        if second != self._second:
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
            self._second = second
        return self._line
