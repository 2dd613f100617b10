"""``GET {prefix}/status`` of the admin side: the state of all of stackit in one answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from stackit.api.admin import AdminRequest, Response, Route, unavailable
from stackit.api.errors import JournalError
from stackit.api.schema import Timestamp
from stackit.api.version import VERSION
from stackit.text.times import rfc3339


class SubscriberCounts(msgspec.Struct, frozen=True):
    """The numbers of handlings of one subscriber that wait, and that were given up; and whether a person paused it."""

    subscriber: str
    pending: int
    dead: int
    paused: bool = False


class Problem(msgspec.Struct, frozen=True):
    """One problem, and since when it is known."""

    problem: str
    since: Timestamp


class Status(msgspec.Struct, frozen=True):
    """The state of all of stackit. ``pending`` and ``dead`` are numbers of handlings, ``repos`` of repositories.

    ``node`` is the node of a fleet that answers: when it was started, and whether it is ready.
    """

    version: str
    started_at: Timestamp
    ready: bool
    problems: list[str]
    since: list[Problem]
    read_only: bool
    pending: int
    dead: int
    subscribers: list[SubscriberCounts]
    repos: int
    node: str | msgspec.UnsetType = msgspec.UNSET


def status(
    *,
    started_at: float,
    checks: Callable[[], Awaitable[Sequence[tuple[str, float]]]],
    pending: Callable[[], Awaitable[Mapping[str, int]]],
    dead: Callable[[], Awaitable[Mapping[str, int]]],
    repos: Callable[[], int],
    read_only: Callable[[], bool] = lambda: False,
    paused: Callable[[], Sequence[str]] = tuple,
    node: str = "",
) -> Route:
    """Return the route.

    ``started_at`` is in seconds since the epoch. ``checks`` returns what is wrong, each with the time
    since which it is known, ``pending`` and ``dead`` the number of handlings by the name of their subscriber,
    ``repos`` the number of managed repositories,
    ``read_only`` whether the admin side changes nothing, ``paused`` the names of the subscribers that are paused.
    ``node`` is the name of this node, "" without a fleet.
    """

    async def show(_request: AdminRequest) -> Response:
        problems = list(await checks())
        try:
            waiting, dead_letters = await pending(), await dead()
        except JournalError as problem:
            return unavailable(problem)
        is_paused = frozenset(paused())
        body = Status(
            version=VERSION,
            started_at=rfc3339(started_at),
            ready=not problems,
            problems=[problem for problem, _ in problems],
            since=[Problem(problem, rfc3339(at)) for problem, at in problems],
            read_only=read_only(),
            pending=sum(waiting.values()),
            dead=sum(dead_letters.values()),
            subscribers=[
                SubscriberCounts(name, waiting.get(name, 0), dead_letters.get(name, 0), name in is_paused)
                for name in sorted({*waiting, *dead_letters, *is_paused})
            ],
            repos=repos(),
            node=node or msgspec.UNSET,
        )
        return Response(body=body)

    return Route(
        "GET",
        "{prefix}/status",
        show,
        query=(),
        summary="Show the state of all of stackit in one answer.",
        returns=Status,
    )
