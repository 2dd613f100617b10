"""The fixture of the dispatch tests: a stackit without the web."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_twisted
from dispatch_harness import Harness, Open


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[Open]:
    """Open harnesses over one state directory; those that a test leaves open are closed afterwards."""
    opened: list[Harness] = []

    def open_one(**arguments: Any) -> Harness:
        opened.append(Harness(tmp_path, **arguments))
        return opened[-1]

    yield open_one
    for each in opened:
        if each.journal._opening is not None:
            await each.close()
