"""The API without HTTP: from a request to its answer, with a record of both."""

from __future__ import annotations

from collections import deque
from inspect import isawaitable

import msgspec

from stackit.testing.github_api.answers import ANONYMOUS, ApiAnswer, ApiRefused, ApiRequest, Caller, not_found
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.credentials import Authenticator, check
from stackit.testing.github_api.router import ApiRoute, Router

VERSIONS = ("2022-11-28", "2026-03-10")
"""The values of ``X-GitHub-Api-Version``; the first is that of a request without it."""

_INVALID = Caller(label="invalid")


class ApiCall(msgspec.Struct, frozen=True, kw_only=True):
    """A request of the API that was answered.

    ``path`` has the query, and no base. ``route`` is the template, or "" where there is no such route. ``caller`` is
    ``app:ID``, ``installation:ID``, ``user:LOGIN``, ``anonymous`` or ``invalid``. ``at`` is by GitHub's clock.
    """

    method: str
    path: str
    route: str
    caller: str
    status: int
    at: float


class PretendApi:
    """The API.

    ``calls`` are the last requests, oldest first. ``refusals`` tells of requests that nobody should make: to a route
    that does not exist, without a User-Agent, for a version that does not exist, with a body that is no JSON.
    """

    def __init__(self, router: Router, authenticator: Authenticator, clock: SettableClock) -> None:
        self.router = router
        self.calls: deque[ApiCall] = deque(maxlen=100_000)
        self.refusals: list[str] = []
        self._authenticator = authenticator
        self._clock = clock

    def count(self, route: str = "", *, method: str = "", caller: str = "", status: int | None = None) -> int:
        """Count the requests that were answered: of a route by its template, a method, a caller, a status."""
        return sum(
            route in ("", each.route)
            and method in ("", each.method)
            and caller in ("", each.caller)
            and status in (None, each.status)
            for each in self.calls
        )

    def refuse(self, request: ApiRequest, why: str) -> None:
        """Remember a request that nobody should make."""
        self.refusals.append(f"{request.method} {request.path}: {why}")

    async def answer(self, request: ApiRequest, uri: str, route: ApiRoute | None) -> ApiAnswer:
        """Answer a request, whose caller is not known yet, and record it with the ``uri`` that it came with."""
        caller = ANONYMOUS
        try:
            if route is None or route.access != "none":
                caller = _INVALID
                caller = self._authenticator.caller(request.headers)
            answer = await self._handled(msgspec.structs.replace(request, caller=caller), route)
        except ApiRefused as refused:
            answer = refused.answer
        call = ApiCall(
            method=request.method,
            path=uri,
            route=request.route,
            caller=caller.label,
            status=answer.status,
            at=self._clock.now(),
        )
        self.calls.append(call)
        version = request.headers.get("x-github-api-version", VERSIONS[0])
        headers = {"X-GitHub-Media-Type": "github.v3; format=json", "X-GitHub-Api-Version-Selected": version}
        return msgspec.structs.replace(answer, headers={**headers, **answer.headers})

    async def _handled(self, request: ApiRequest, route: ApiRoute | None) -> ApiAnswer:
        if route is None:
            self.refuse(request, "no such route")
            raise not_found()
        if not route.web:
            self._check_headers(request)
        check(request.caller, route.access)
        answer = route.handler(request)
        return await answer if isawaitable(answer) else answer

    def _check_headers(self, request: ApiRequest) -> None:
        if not request.headers.get("user-agent"):
            self.refuse(request, "no User-Agent")
            raise ApiRefused(
                403,
                "Request forbidden by administrative rules. Please make sure your request has a User-Agent header"
                " (https://docs.github.com/en/rest/overview/resources-in-the-rest-api#user-agent-required)."
                " Check https://developer.github.com for other possible causes.",
            )
        version = request.headers.get("x-github-api-version", VERSIONS[0])
        if version not in VERSIONS:
            self.refuse(request, f"no API version {version}")
            raise ApiRefused(400, f'The version "{version}" is not a supported API version.')
