"""What the tests of the SQLite journal share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from slow_disk import Disk

from stackit.journal.sqlite import SQLiteJournal


@pytest.fixture
def disk() -> Disk:
    """The disk below a journal, which the test may slow down or break."""
    return Disk()


@pytest_twisted.async_yield_fixture
async def journal(tmp_path: Path) -> AsyncIterator[SQLiteJournal]:
    """An empty journal in ``tmp_path/state``."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    opened = SQLiteJournal.open(tmp_path / "state", reactor=reactor)
    yield opened
    await opened.close()
