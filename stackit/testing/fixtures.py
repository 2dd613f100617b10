"""pytest fixtures, found by pytest wherever stackit is installed.

Those that are coroutines need pytest-twisted (``pip install stackit[test]``). Nothing else is imported before a test
asks for it, as pytest loads this file in every project of the environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pytest

if TYPE_CHECKING:
    from stackit.testing.fleet import RunningFleet
    from stackit.testing.github import PretendGitHub
    from stackit.testing.postgres import PostgresServer
    from stackit.testing.server import RunningStackit

Fixture = TypeVar("Fixture", bound=Callable[..., Any])


def _fixture(function: Fixture) -> Fixture:
    try:
        from pytest_twisted import async_yield_fixture  # noqa: PLC0415 - pytest alone has it
    except ImportError:
        # A project that does not use these fixtures must not notice that they cannot work.
        def missing() -> None:
            pytest.fail(f"the fixture {function.__name__} needs pytest-twisted: pip install stackit[test]")

        return cast("Fixture", pytest.fixture(name=function.__name__)(missing))
    return cast("Fixture", async_yield_fixture(function))


@_fixture
async def pretend_github(tmp_path: Path) -> AsyncIterator[PretendGitHub]:
    """A ``PretendGitHub`` that listens, without repositories."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    from stackit.testing.github import PretendGitHub  # noqa: PLC0415 - not before it is wanted

    github = PretendGitHub()
    await github.start(reactor, tmp_path / "github")
    yield github
    await github.stop()


@_fixture
async def running_stackit(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[RunningStackit]]]:
    """Start stackit with the arguments of ``RunningStackit``: ``await running_stackit(config={…}, plugins=directory)``.

    It can start several, each with a state directory of its own. All are stopped after the test.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    from stackit.testing.process import StackitFailed  # noqa: PLC0415 - not before it is wanted
    from stackit.testing.server import RunningStackit  # noqa: PLC0415 - as above

    started: list[RunningStackit] = []

    async def start(**settings: Any) -> RunningStackit:
        server = RunningStackit(reactor, tmp_path / f"stackit-{len(started) + 1}", **settings)
        started.append(server)
        await server.start()
        return server

    yield start
    failures = []
    for server in reversed(started):
        try:
            await server.stop()
        except StackitFailed as failure:  # the others must end all the same
            failures.append(failure)
    if failures:
        raise failures[0]


@_fixture
async def running_fleet(tmp_path: Path, postgres: str) -> AsyncIterator[Callable[..., Awaitable[RunningFleet]]]:
    """Start nodes with the arguments of ``RunningFleet``: ``await running_fleet(nodes=["a", "b"], config={…})``.

    They are on one empty database, unless ``postgres`` names another. All are stopped after the test.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    from stackit.testing.fleet import RunningFleet  # noqa: PLC0415 - not before it is wanted

    started: list[RunningFleet] = []

    async def start(**settings: Any) -> RunningFleet:
        chosen = {"postgres": postgres, **settings}
        fleet = RunningFleet(reactor, tmp_path / f"fleet-{len(started) + 1}", **chosen)
        started.append(fleet)
        await fleet.start()
        return fleet

    yield start
    for fleet in reversed(started):
        await fleet.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The ``PostgresServer`` that all tests of a session share: a test that restarts it or cuts it off has its own."""
    from stackit.testing.postgres import PostgresServer  # noqa: PLC0415 - not before it is wanted

    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[str]:
    """The conninfo of an empty PostgreSQL database. A connection that the test leaves open fails it."""
    conninfo = postgres_server.database()
    yield conninfo
    left = postgres_server.left_behind(conninfo)
    postgres_server.drop(conninfo)
    if left:
        pytest.fail(f"connections to PostgreSQL: {left}")
