"""A client of GitHub's API beside a server that answers as a test tells it, both with a simulated time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from api_server import ApiServer

from stackit.api.reactor import sleep
from stackit.github.api import ApiClient, ApiClients, ApiError
from stackit.testing.timelapse import Timelapse


class StubCredential:
    """A credential whose tokens a test sets: ``tokens`` are used one after the other, each until it is rejected."""

    def __init__(self, key: str = "main", *tokens: str) -> None:
        self.key = key
        self.tokens = list(tokens or ("ghs_first",))
        self.headers: Mapping[str, str] = {}

    async def authorization(self) -> str:
        return f"Bearer {self.tokens[0]}"

    def rejected(self, authorization: str, status: int) -> bool:
        if len(self.tokens) > 1 and authorization == f"Bearer {self.tokens[0]}":
            del self.tokens[0]
            return True
        return False

    def answered(self, headers: Mapping[str, str]) -> None:
        self.headers = headers


class Pair:
    """A client, and the server that it asks. ``credential`` is the client's, ``notices`` what an operator is told."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.time = Timelapse(reactor)
        self.server = ApiServer(reactor, self.time.now, self.time.seconds)
        self.notices: list[str] = []
        self.clients = ApiClients(self.time, self.time.now, notice=self.notices.append)
        self.credential = StubCredential()
        self.client = self.make()

    def make(self, credential: Any = None, base: str = "", **options: Any) -> ApiClient:
        return self.clients.client(self.server.url + base, credential or self.credential, **options)

    async def until(self, ready: Callable[[], object], *, passing: float = 0.0) -> None:
        """Wait until something is so, and let so many seconds pass with each look at it."""
        for _ in range(5000):
            if ready():
                return
            await self.time.pass_time(passing)
            await sleep(self._reactor, 0.005)  # a name is resolved in a thread, of which simulated time knows nothing
        raise AssertionError("waited in vain")

    @property
    def paths(self) -> list[str]:
        return [each.uri for each in self.server.asked]

    def metric(self, name: str, **labels: str) -> float | None:
        families = [family for collector in self.clients.collectors() for family in collector.collect()]
        return next(
            (
                sample.value
                for family in families
                for sample in family.samples
                if sample.name == name and sample.labels == labels
            ),
            None,
        )


async def error_of(asked: Any) -> ApiError:
    """Return the error that a request ends with."""
    with pytest.raises(ApiError) as raised:
        await asked
    return raised.value
