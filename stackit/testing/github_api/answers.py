"""A request of the API as its routes see it, and their answers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from stackit.testing.github_api.apps import PretendApp
from stackit.testing.github_api.repositories import HostedRepository
from stackit.testing.github_api.tokens import Token

if TYPE_CHECKING:
    from stackit.testing.github_api.api_faults import ApiFault

DOCUMENTATION = "https://docs.github.com/rest"
VERSIONS = ("2022-11-28", "2026-03-10")
"""The values of ``X-GitHub-Api-Version``; the first is that of a request without it."""


class ApiRefused(Exception):
    """The request is refused with GitHub's own words. ``extra`` are further keys of the answer."""

    def __init__(
        self, status: int, message: str, *, headers: Mapping[str, str] | None = None, extra: Mapping[str, Any] = {}
    ) -> None:
        super().__init__(message)
        self.answer = ApiAnswer(
            status=status,
            body={"message": message, "documentation_url": DOCUMENTATION, "status": str(status), **extra},
            headers=dict(headers or {}),
        )


def not_found() -> ApiRefused:
    """Return the refusal of what is not there, or may not be known."""
    return ApiRefused(404, "Not Found")


def forbidden() -> ApiRefused:
    """Return the refusal of what an App or a token was not granted."""
    return ApiRefused(403, "Resource not accessible by integration")


class Caller(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Who asks: an App by its JWT, a token, or nobody.

    ``label`` is ``app:ID``, ``installation:ID``, ``user:LOGIN``, ``anonymous`` or, of a credential that was refused,
    ``invalid``. Requests with the same label share their limits.
    """

    label: str
    app: PretendApp | None = None
    token: Token | None = None

    @property
    def expiry(self) -> str | None:
        """When a personal token ends, as the header has it; None for every other caller."""
        if self.token is None or self.token.installation is not None:
            return None
        return dt.datetime.fromtimestamp(int(self.token.expires_at), dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

    def sees(self, repository: HostedRepository) -> bool:
        """Return whether the repository may be known to the caller."""
        return not repository.private or (self.token is not None and self.token.reaches(repository))


ANONYMOUS = Caller(label="anonymous")


class ApiRequest(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A request. ``path`` is without the base of the API, ``api_url`` the address of that base, as it was asked for.

    ``parameters`` are those of the route's template, ``query`` the last value of each name. ``headers`` have
    lower-case names.
    """

    method: str
    path: str
    route: str
    parameters: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    site_url: str
    api_url: str
    caller: Caller

    def json(self) -> Any:
        """Return the decoded body, an empty object without one. Raises ApiRefused."""
        try:
            return msgspec.json.decode(self.body) if self.body else {}
        except msgspec.DecodeError:
            raise ApiRefused(400, "Problems parsing JSON") from None

    def object(self) -> dict[str, Any]:
        """Return the body, which is a JSON object. Raises ApiRefused."""
        found = self.json()
        if not isinstance(found, dict):
            raise ApiRefused(400, "Body should be a JSON object")
        return found

    @property
    def app(self) -> PretendApp:
        """The App that asks, on a route for Apps alone."""
        assert self.caller.app is not None  # noqa: S101 - the route is for Apps
        return self.caller.app

    @property
    def token(self) -> Token:
        """The token, on a route that wants one."""
        assert self.caller.token is not None  # noqa: S101 - the route wants one
        return self.caller.token


class ApiAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer. ``body`` is JSON-able, None for none, or bytes, which go as they are.

    ``transmission`` is the fault with which it is sent.
    """

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = {}
    content_type: str = "application/json; charset=utf-8"
    transmission: ApiFault | None = None


Access = Literal["none", "any", "app", "installation", "token"]
"""Which credential a route wants: it looks at none; one or nobody; an App's JWT; an installation's token; any token."""
