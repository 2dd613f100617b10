"""A bounded site on a real port, and a clock that the tests turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from bounded_site import (
    LARGE,
    Broken,
    Constant,
    Echo,
    Listen,
    Refused,
    Spacious,
    Streaming,
    Told,
)
from rawhttp import Listening
from twisted.internet import reactor
from twisted.internet.task import Clock, LoopingCall
from twisted.python.failure import Failure

from stackit.http.messages import RequestHead
from stackit.http.server.refusals import Refusal
from stackit.http.server.site import BoundedSite, Limits


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_twisted.async_yield_fixture
async def passing(clock: Clock) -> AsyncIterator[None]:
    """Turns the clock with the reactor, by no time at all."""
    turning = LoopingCall(clock.advance, 0)
    turning.clock = reactor
    stopped = turning.start(0)
    yield
    turning.stop()
    await stopped


@pytest.fixture
def failures() -> list[Failure]:
    """The failures of handlers, as they were reported."""
    return []


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def streaming() -> Streaming:
    return Streaming()


@pytest_twisted.async_yield_fixture
async def listen(clock: Clock, echo: Echo, streaming: Streaming, failures: list[Failure]) -> AsyncIterator[Listen]:
    made: list[Listening] = []

    def make(**limits: Any) -> Listening:
        seen: list[Any] = []
        routes: dict[bytes, Any] = {b"/echo": echo, b"/spacious": Spacious(), b"/broken": Broken()}
        routes |= {b"/plain": Constant(b"hello"), b"/large": Constant(LARGE)}
        routes[b"/stream"] = streaming
        routes[b"/told"] = routes[b"/"] = Told()

        def refused(client: str, head: RequestHead | None, refusal: Refusal) -> None:
            seen.append(Refused(client=client, reason=refusal.reason))

        site = BoundedSite(
            routes,
            reactor=clock,
            on_refused=refused,
            on_failure=failures.append,
            limits=Limits(**limits),
            now=clock.seconds,
        )
        made.append(Listening(reactor, site, seen))
        return made[-1]

    yield make
    for each in made:
        await each.stop()
