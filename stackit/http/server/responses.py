"""Responses as the bytes that go over the wire."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import msgspec

from stackit.http.messages import Response

_STATUS_LINES = {
    each.value: f"HTTP/1.1 {each.value} {each.phrase}\r\nServer: stackit\r\n".encode() for each in HTTPStatus
}
_NO_CONTENT = HTTPStatus.NO_CONTENT.value
_NOT_MODIFIED = HTTPStatus.NOT_MODIFIED.value
_BODILESS = (_NO_CONTENT, _NOT_MODIFIED, HTTPStatus.RESET_CONTENT.value)


def serialize(response: Response, date: bytes, *, last: bool, with_body: bool = True) -> bytes:
    """Return a response as bytes. ``date`` is the line of ``Dates``; ``last``: the connection ends behind it.

    Raises TypeError for a body that is not JSON-able.
    """
    body = encode_body(response)
    head = _begin(response, date, last)
    if response.status in (_NO_CONTENT, _NOT_MODIFIED):  # neither has a length
        return head + b"\r\n"
    return b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body if with_body else b"")


def serialize_head(response: Response, date: bytes, *, chunked: bool) -> bytes:
    """Return the head of a response whose body is a stream: in chunks, or until the connection ends."""
    return _begin(response, date, last=True) + (b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n")


def _begin(response: Response, date: bytes, last: bool) -> bytes:
    head = _head(response.status, response.content_type, last) + date
    if response.headers:
        head += "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()]).encode("latin-1")
    return head


def encode_body(response: Response) -> bytes:
    """Return the body of a response as bytes. Raises TypeError for one that is not JSON-able."""
    body = response.body
    if body is None or response.status in _BODILESS:  # a client would take a body of these for the next response
        return b""
    return body if isinstance(body, bytes) else msgspec.json.encode(body) + b"\n"


@lru_cache(maxsize=256)
def _head(status: int, content_type: str, last: bool) -> bytes:
    """Return the lines that many responses share."""
    kind = "" if status == _NO_CONTENT else f"Content-Type: {content_type}\r\n"
    end = "Connection: close\r\n" if last else ""
    return _STATUS_LINES[status] + f"{kind}{end}".encode("latin-1")


class Dates:
    """The ``Date`` header of responses. ``now`` returns seconds since the epoch."""

    __slots__ = ("_line", "_now", "_second")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = -1
        self._line = b""

    def line(self) -> bytes:
        """Return the header's line, which is formatted once a second."""
        second = int(self._now())
        if second != self._second:
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
            self._second = second
        return self._line
