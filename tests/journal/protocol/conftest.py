"""Every implementation of ``JournalProtocol``: each test of this folder runs against each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from memory_journal import MemoryJournal
from postgres_journals import open_sole

from stackit.journal import JournalProtocol
from stackit.journal.sqlite import SQLiteJournal


@pytest.fixture(scope="session", params=["sqlite", "memory", "postgres"])
def implementation(request: pytest.FixtureRequest) -> str:
    """The name of the implementation; the server that it needs is there."""
    if request.param == "postgres":
        request.getfixturevalue("postgres_server")
    return str(request.param)


@pytest_twisted.async_yield_fixture
async def journal(
    implementation: str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[JournalProtocol]:
    """An empty journal, which keeps events for a week."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    opened: JournalProtocol
    if implementation == "sqlite":
        opened = SQLiteJournal.open(tmp_path / "state", reactor=reactor)
    elif implementation == "memory":
        opened = MemoryJournal(reactor)
    else:
        opened = open_sole(request.getfixturevalue("postgres"), reactor)
    yield opened
    await opened.close()
