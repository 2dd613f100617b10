"""The API without HTTP: from a request to its answer, with a record of both."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from inspect import isawaitable

import msgspec

from stackit.api.reactor import Reactor, sleep
from stackit.testing.github_api.answers import ANONYMOUS, VERSIONS, ApiAnswer, ApiRefused, ApiRequest, Caller, not_found
from stackit.testing.github_api.api_faults import ApiFaults
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.github_api.credentials import Authenticator, check
from stackit.testing.github_api.etags import tagged
from stackit.testing.github_api.limits import Limits
from stackit.testing.github_api.paging import page_number
from stackit.testing.github_api.router import ApiRoute, Router

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
    that does not exist, without a User-Agent, for a version that does not exist. ``limits`` and ``faults`` are what
    they are. ``latency``: seconds that an answer takes. ``credentials`` are those that came, right or wrong, without
    their scheme: tests look for them where none may be.
    """

    _reactor: Reactor

    def __init__(self, router: Router, authenticator: Authenticator, clock: SettableClock) -> None:
        self.router = router
        self.calls: deque[ApiCall] = deque(maxlen=100_000)
        self.refusals: list[str] = []
        self.limits = Limits(clock)
        self.faults = ApiFaults()
        self.latency = 0.0
        self.credentials: set[str] = set()
        self._authenticator = authenticator
        self._clock = clock
        self._after: list[tuple[str, int, Callable[[], Awaitable[object]]]] = []

    def start(self, reactor: Reactor) -> None:
        """Answer from now on."""
        self._reactor = reactor

    def after_page(self, route: str, page: int, change: Callable[[], Awaitable[object]]) -> None:
        """Await ``change()`` once, when a page of a list has been made up, and before it is sent."""
        self._after.append((route, page, change))

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
        self.credentials |= {request.headers.get("authorization", "").partition(" ")[2]} - {""}
        try:
            caller = self._caller(request, route)
        except ApiRefused as refused:
            caller, answer = _INVALID, refused.answer
        else:
            with self.limits.open(caller.label):
                answer = await self._answered(msgspec.structs.replace(request, caller=caller), route)
                if self.latency:
                    await sleep(self._reactor, self.latency)
        call = ApiCall(
            method=request.method,
            path=uri,
            route=request.route,
            caller=caller.label,
            status=answer.status,
            at=self._clock.now(),
        )
        self.calls.append(call)
        return answer

    def _caller(self, request: ApiRequest, route: ApiRoute | None) -> Caller:
        return (
            ANONYMOUS if route is not None and route.access == "none" else self._authenticator.caller(request.headers)
        )

    async def _answered(self, request: ApiRequest, route: ApiRoute | None) -> ApiAnswer:
        """Answer within the limits, with the headers of the API, which pages of the site have not."""
        if route is not None and route.web:
            return await self._handled(request, route)
        key = request.caller.label
        counted = route is None or route.access != "none"
        try:
            if counted:
                self.limits.spend(key, request.method, free=request.route == "/rate_limit")
            answer = tagged(request, await self._handled(request, route))
            if counted and answer.status == 304:
                self.limits.refund(key)
        except ApiRefused as refused:
            answer = refused.answer
        version = request.headers.get("x-github-api-version", VERSIONS[0])
        headers = {"X-GitHub-Media-Type": "github.v3; format=json", "X-GitHub-Api-Version-Selected": version}
        expiry = request.caller.expiry
        if expiry is not None:
            headers["GitHub-Authentication-Token-Expiration"] = expiry
        limits = self.limits.headers(key) if counted else {}
        return msgspec.structs.replace(answer, headers={**headers, **limits, **answer.headers})

    async def _handled(self, request: ApiRequest, route: ApiRoute | None) -> ApiAnswer:
        """Answer by the route, or by its fault. Raises ApiRefused."""
        if route is None:
            self.refuse(request, "no such route")
            raise not_found()
        if not route.web:
            self._check_headers(request)
        fault = self.faults.next(request)
        replacement = None if fault is None else fault.replacement(request)
        if replacement is not None:
            return replacement
        check(request.caller, route.access)
        found = route.handler(request)
        answer = await found if isawaitable(found) else found
        await self._change_after(request)
        return answer if fault is None else fault.spoil(answer)

    async def _change_after(self, request: ApiRequest) -> None:
        for due in [each for each in self._after if each[:2] == (request.route, page_number(request))]:
            self._after.remove(due)
            await due[2]()

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
