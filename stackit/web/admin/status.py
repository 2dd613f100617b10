"""``GET {prefix}/status`` of the admin side: the state of all of stackit in one answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from stackit.api.admin import AdminRequest, Response, Route, unavailable
from stackit.api.errors import JournalError
from stackit.api.version import VERSION
from stackit.text.times import rfc3339


def status(
    *,
    started_at: float,
    checks: Callable[[], Awaitable[Sequence[str]]],
    pending: Callable[[], Mapping[str, int]],
    dead: Callable[[], Awaitable[Mapping[str, int]]],
    repos: Callable[[], int],
) -> Route:
    """Return the route.

    ``started_at`` is in seconds since the epoch. ``checks`` returns what is wrong, ``pending`` and ``dead`` the number
    of handlings by the name of their subscriber, ``repos`` the number of managed repositories.
    """

    async def show(_request: AdminRequest) -> Response:
        problems = list(await checks())
        try:
            dead_letters = await dead()
        except JournalError as problem:
            return unavailable(problem)
        waiting = pending()
        body = {
            "version": VERSION,
            "started_at": rfc3339(started_at),
            "ready": not problems,
            "problems": problems,
            "pending": sum(waiting.values()),
            "dead": sum(dead_letters.values()),
            "subscribers": [
                {"subscriber": name, "pending": waiting.get(name, 0), "dead": dead_letters.get(name, 0)}
                for name in sorted({*waiting, *dead_letters})
            ],
            "repos": repos(),
        }
        return Response(body=body)

    return Route("GET", "{prefix}/status", show, query=())
