"""``GET /readyz`` of the admin side: the problems that an operator has to know of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import msgspec

from stackit.api.admin import AdminRequest, Response, Route


class Ready(msgspec.Struct, frozen=True):
    """Nothing is wrong."""

    ready: bool = True


class NotReady(msgspec.Struct, frozen=True):
    """Something is wrong: each problem is a line."""

    problems: list[str]
    ready: bool = False


def readyz(checks: Callable[[], Awaitable[Sequence[str]]]) -> Route:
    """Return the route ``GET /readyz``: 200 while ``checks`` returns no problem, else 503 with the problems."""

    async def ready(_request: AdminRequest) -> Response:
        problems = list(await checks())
        if problems:
            return Response(status=503, body=NotReady(problems))
        return Response(body=Ready())

    summary = "Say whether all is well, and what is not."
    return Route("GET", "/readyz", ready, query=(), summary=summary, returns=Ready, errors={503: NotReady})
