"""``GET /readyz`` of the admin side: the problems that an operator has to know of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from stackit.api.admin import AdminRequest, Response, Route


def readyz(checks: Callable[[], Awaitable[Sequence[str]]]) -> Route:
    """Return the route ``GET /readyz``: 200 while ``checks`` returns no problem, else 503 with the problems."""

    async def ready(_request: AdminRequest) -> Response:
        problems = list(await checks())
        if problems:
            return Response(status=503, body={"ready": False, "problems": problems})
        return Response(body={"ready": True})

    return Route("GET", "/readyz", ready, query=())
