"""A browser that all tests share, windows that must be without fault at their end, and a stackit to look at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from browser import Browser, Place, Window, settled
from outside import check_log
from twisted.internet.defer import Deferred

from stackit.testing import PretendGitHub


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser, started once."""
    found = Browser()
    # pytest-twisted has coroutine fixtures for one test only.
    pytest_twisted.blockon(Deferred.fromCoroutine(found.start()))
    yield found
    pytest_twisted.blockon(Deferred.fromCoroutine(found.stop()))


@pytest_twisted.async_yield_fixture
async def open_window(browser: Browser, place: Place) -> AsyncIterator[Callable[..., Awaitable[Window]]]:
    """Open windows, which are closed before the place is. One in which something went wrong fails the test."""
    opened: list[Window] = []

    async def open_one(**settings: Any) -> Window:
        opened.append(await browser.window(**settings))
        return opened[-1]

    yield open_one
    for window in opened:
        await browser.run(window.close)
    problems = [each for window in opened for each in window.problems]
    assert not problems, problems


@pytest_twisted.async_yield_fixture
async def place(running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path) -> AsyncIterator[Place]:
    """A stackit with people, mirrors, dead letters and hostile names, to look at."""
    found = await settled(running_stackit, pretend_github, tmp_path)
    yield found
    check_log(found.server.log)
