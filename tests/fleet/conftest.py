"""Fixtures of the fleet: nodes on a database of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted
from fleet_nodes import Nodes


@pytest_twisted.async_yield_fixture
async def nodes(postgres: str) -> AsyncIterator[Nodes]:
    """Nodes of a fleet, which are stopped when the test ends."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made = Nodes(reactor, postgres)
    yield made
    await made.close()
