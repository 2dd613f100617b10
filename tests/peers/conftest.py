"""A fleet of nodes in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted
from peer_nodes import PeerFleet


@pytest_twisted.async_yield_fixture
async def fleet() -> AsyncIterator[PeerFleet]:
    """Nodes whose admin sides listen; each is started by ``await fleet.start(name)``."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    found = PeerFleet(reactor)
    yield found
    await found.stop()
