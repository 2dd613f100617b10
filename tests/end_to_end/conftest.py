"""One stackit that many tests share: it has no repositories, and notes every event."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_twisted
from outside import Notebook, all_handled, check_log
from twisted.internet.defer import Deferred

from stackit.testing import RunningStackit


class Receiver:
    """The shared stackit, and what its plugin noted."""

    def __init__(self, server: RunningStackit, notebook: Notebook) -> None:
        self.server = server
        self.notebook = notebook


@pytest.fixture(scope="session")
def one_receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    directory = tmp_path_factory.mktemp("receiver")
    notebook = Notebook(directory / "notebook")
    server = RunningStackit(
        reactor,
        directory,
        config={
            "sync": {"interval": "0"},
            "webhook": {"max_body": "1 MiB"},
            # These tests are refused more often than any client should be.
            "plugins": {"notebook": notebook.table, "ratelimit": {"burst": 100000}},
        },
        environment=notebook.environment,
    )
    # pytest-twisted has coroutine fixtures for one test only.
    pytest_twisted.blockon(Deferred.fromCoroutine(server.start()))
    yield Receiver(server, notebook)
    assert pytest_twisted.blockon(Deferred.fromCoroutine(server.stop())) == 0
    check_log(server.log)


@pytest_twisted.async_yield_fixture
async def receiver(one_receiver: Receiver) -> AsyncIterator[Receiver]:
    """The shared stackit, whose log must be clean after every test, and which has nothing left to do for the next."""
    yield one_receiver
    await all_handled(one_receiver.server)
    # The connections that are kept for the next request would count as left behind.
    await one_receiver.server._client.close()
    check_log(one_receiver.server.log)
