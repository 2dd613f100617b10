"""The error of a request to GitHub's API."""

from __future__ import annotations

from typing import Literal, get_args

from stackit.api.errors import StackitError

Reason = Literal[
    "unauthorized",  # 401: the token, or the App's key, is not known (any more)
    "forbidden",  # 403: it lacks a permission
    "suspended",  # 403: somebody suspended the installation
    "not_found",  # 404 or 410: there is no such thing, or it may not be seen
    "rate_limited",  # the primary limit: no request is left until ``retry_at``
    "secondary_limit",  # too many requests at once: none is wanted until ``retry_at``
    "validation",  # 400, 409, 422: the request is wrong
    "server",  # 5xx
    "shape",  # an answer that is not of the API: a page of HTML, JSON of another shape, a redirect to elsewhere
    "network",  # no whole answer came
    "too_large",
]
REASONS: tuple[Reason, ...] = get_args(Reason)


class ApiError(StackitError):
    """A request to GitHub's API that did not succeed; the text is one line without credentials.

    ``status`` is that of the answer; None where none came. ``retry_at`` is when another try may help, in seconds since
    the epoch by the clock of this machine; None where that is not known.
    """

    def __init__(
        self, message: str, *, reason: Reason, status: int | None = None, retry_at: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.status = status
        self.retry_at = retry_at
