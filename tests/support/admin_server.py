"""An admin side that listens, for tests over real sockets."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from stackit import AdminRequest, Response, Route

PREFIXES = ("/api/v1", "/api")


class Answer(msgspec.Struct, frozen=True):
    """What came back before the connection closed; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Reader(Protocol):
    transport: Any  # a zope interface, which mypy does not know

    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, _reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class Server:
    """A listening admin side."""

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self.port = port

    async def connect(self) -> _Reader:
        reader: _Reader = await connectProtocol(HostnameEndpoint(self._reactor, "127.0.0.1", self.port), _Reader())
        return reader

    async def send(self, request: bytes) -> Answer:
        reader = await self.connect()
        reader.transport.write(request)
        await reader.lost
        head, _, body = reader.received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(status.split()[1]), headers, body)

    async def ask(
        self, method: str, path: str, *headers: str, host: str | None = "localhost", body: bytes = b""
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Connection: close", *headers]
        lines += [f"Host: {host}"] if host is not None else []
        lines += [f"Content-Length: {len(body)}"] if body else []
        return await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


Serve = Callable[..., Awaitable[Server]]


def echo(request: AdminRequest) -> Response:
    return Response(
        body={
            "method": request.method,
            "path": request.path,
            "args": request.args,
            "query": request.query,
            "body": request.body.decode(),
            "by": request.by,
        }
    )


ECHO = [
    Route("GET", "/metrics", echo),
    Route("GET", "{prefix}/repos/{owner}/{name}", echo),
    Route("POST", "{prefix}/repos/{owner}/{name}/sync", echo),
]
CSRF = "X-Stackit-CSRF: 1"
