"""A client of GitHub's API beside a server that answers as a test tells it, both with a simulated time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest_twisted
from api_server import ApiServer
from twisted.internet import reactor

from stackit.github.api import ApiClient, ApiClients
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
        self.time = Timelapse(reactor)
        self.server = ApiServer(reactor, self.time.now, self.time.seconds)
        self.notices: list[str] = []
        self.clients = ApiClients(self.time, self.time.now, notice=self.notices.append)
        self.credential = StubCredential()
        self.client = self.make()

    def make(self, credential: Any = None, base: str = "", **options: Any) -> ApiClient:
        return self.clients.client(self.server.url + base, credential or self.credential, **options)

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


@pytest_twisted.async_yield_fixture
async def pair() -> AsyncIterator[Pair]:
    pair = Pair(reactor)
    yield pair
    await pair.clients.close()
    await pair.server.stop()
