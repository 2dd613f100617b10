"""Requests to a stackit under test, and their answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.http_headers import Headers

from stackit.api.reactor import Reactor


class Answer(msgspec.Struct, frozen=True):
    """A response of stackit. ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body. Raises msgspec.DecodeError."""
        return msgspec.json.decode(self.body)


class Client:
    """An HTTP client with kept connections. An answer has ``timeout`` seconds to come."""

    def __init__(self, reactor: Reactor, timeout: float) -> None:
        self._timeout = timeout
        self._pool = HTTPConnectionPool(reactor)
        self._client = HTTPClient(Agent(reactor, connectTimeout=timeout, pool=self._pool))  # type: ignore[arg-type]  # zope

    async def ask(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request, and return the answer. Raises the exceptions of treq if there is none."""
        sent = Headers({name: [value] for name, value in (headers or {}).items()})
        response: Any = await self._client.request(method, url, data=body, headers=sent, timeout=self._timeout)
        pairs = response.headers.getAllRawHeaders()
        found = {name.decode().lower(): b", ".join(values).decode() for name, values in pairs}
        return Answer(response.code, found, await treq.content(response))

    def close(self) -> Deferred[Any]:
        """Close the kept connections. The next request opens a new one."""
        closed: Deferred[Any] = self._pool.closeCachedConnections()
        return closed
