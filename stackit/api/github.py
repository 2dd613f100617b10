"""GitHub's API as a plugin uses it: requests with the token of an App, and their error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Literal, Protocol, TypeVar, get_args

from stackit.api.errors import StackitError

ApiReason = Literal[
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
API_REASONS: tuple[ApiReason, ...] = get_args(ApiReason)

Params = Mapping[str, str | int | bool]
"""The query of a request."""

T = TypeVar("T")


class ApiError(StackitError):
    """A request to GitHub's API that did not succeed; the text is one line without credentials.

    ``status`` is that of the answer; None where none came. ``retry_at`` is when another try may help, in seconds since
    the epoch by the clock of this machine; None where that is not known.
    """

    def __init__(
        self, message: str, *, reason: ApiReason, status: int | None = None, retry_at: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason: ApiReason = reason
        self.status = status
        self.retry_at = retry_at


class GitHubClient(Protocol):
    """GitHub's API, asked as the App that is installed for a repository; ``app.github(repo)`` returns one.

    A route is a path of GitHub's documentation, such as ``/repos/{owner}/{repo}/issues/{number}``. ``{owner}`` and
    ``{repo}`` are those of the repository; the other values are given by name. Requests go one after the other, and
    none goes out while a limit of GitHub holds.

    Each raises ApiError where GitHub does not answer as hoped, and StackitError where no App may ask; from a handler
    either is tried again later.
    """

    async def get(self, route: str, type: type[T], params: Params | None = None, **values: object) -> T:  # noqa: A002
        """Return the answer, decoded as a ``type`` that msgspec knows: ``dict``, a struct, ``list[…]``."""

    def pages(
        self,
        route: str,
        type: type[T],  # noqa: A002
        params: Params | None = None,
        **values: object,
    ) -> AsyncIterator[T]:
        """Yield the pages of a listing, each decoded; a hundred entries each, unless ``per_page`` says otherwise."""

    async def send(
        self,
        method: str,
        route: str,
        body: object = None,
        type: type[T] = ...,  # noqa: A002
        **values: object,
    ) -> T:
        """Return the decoded answer to a POST, PATCH, PUT or DELETE, with ``body`` as JSON.

        Without a ``type``, any answer will do, also none.
        """
