"""A client of GitHub's API, and the server that it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_twisted
from api_pair import Pair
from twisted.internet import reactor


@pytest_twisted.async_yield_fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair(reactor)
    yield pair
    await pair.clients.close()
    await pair.server.stop()
