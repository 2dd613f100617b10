"""The error of a request to a remote."""

from __future__ import annotations


class RemoteError(Exception):
    """A remote did not answer as hoped.

    ``reason`` is from a small closed set, fit for a metric's label. Of the client itself: ``unreachable``, ``timeout``,
    ``protocol`` (what came is no answer of HTTP/1.1), ``too_large``, ``tls`` (no trust came about). ``status`` is that
    of the response, where it is the reason. ``retry_after`` is for how many seconds the remote wants no request, where
    it said so.
    """

    def __init__(self, reason: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(_describe(reason, status, retry_after))
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


def _describe(reason: str, status: int | None, retry_after: float | None) -> str:
    if retry_after is not None:
        return f"the remote asks for fewer requests: none for {retry_after:.0f} seconds"
    return reason if status is None else f"{reason} {status}"
