"""What the tests of the public side share: a site on a real port, and a client that sends any bytes it likes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from stackit.http.server.site import BoundedSite

PATIENCE = 60.0


class Answer(msgspec.Struct, frozen=True):
    """One answer, parsed: header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client(Protocol):
    """One connection to the site."""

    transport: Any  # a zope interface, which mypy does not know

    def __init__(self) -> None:
        self.received = b""
        self.closed: Deferred[None] = Deferred()
        self.gone = False
        self._awaited: tuple[Callable[[], Any], Deferred[Any]] | None = None

    def send(self, data: bytes) -> Client:
        self.transport.write(data)
        return self

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone = True
        self._look()
        self.closed.callback(None)

    def _look(self) -> None:
        if self._awaited is None:
            return
        ready, waiting = self._awaited
        found = ready()
        if found is not None or self.gone:
            self._awaited = None
            waiting.callback(found)

    def until(self, ready: Callable[[], Any]) -> Deferred[Any]:
        """What ``ready`` gives, as soon as that is not None; None if the connection ends before."""
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        waiting: Deferred[Any] = Deferred()
        self._awaited = (ready, waiting)
        self._look()
        return waiting.addTimeout(PATIENCE, reactor)

    async def answer(self) -> Answer:
        """The next answer; interim ones are answers too."""
        found: tuple[Answer, bytes] | None = await self.until(self._parse)
        assert found is not None, f"no answer, but {self.received!r}"
        answer, self.received = found
        return answer

    async def end(self) -> bytes:
        """Wait until the site has closed: the bytes that were not read as answers."""
        if not self.gone:
            await self.until(lambda: None)
        return self.received

    def _parse(self) -> tuple[Answer, bytes] | None:
        head, found, rest = self.received.partition(b"\r\n\r\n")
        if not found:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return None
        return Answer(int(first.split(" ")[1]), headers, rest[:length]), rest[length:]


class Listening:
    """A site on a port of its own, and what it told its observers."""

    def __init__(self, reactor: Any, site: BoundedSite, seen: list[Any]) -> None:
        self.site = site
        self.seen = seen
        self._reactor = reactor
        self._port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self._clients: list[Client] = []

    @property
    def reasons(self) -> list[str | None]:
        return [each.reason for each in self.seen if each.name == "refused"]

    async def connect(self, source: str | None = None) -> Client:
        bind = (source, 0) if source else None
        endpoint = HostnameEndpoint(self._reactor, "127.0.0.1", self._port.getHost().port, bindAddress=bind)
        client: Client = await connectProtocol(endpoint, Client())
        self._clients.append(client)
        return client

    async def ask(self, data: bytes) -> Answer:
        """The first answer on a new connection that is sent ``data``."""
        return await (await self.connect()).send(data).answer()

    async def stop(self) -> None:
        await self._port.stopListening()
        for client in self._clients:
            if not client.gone:
                client.transport.abortConnection()
                await client.closed
        drained = self.site.wind_down(0)
        self.site.abort()
        await drained


def request(
    path: str = "/", method: str = "POST", headers: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A request as it goes over the wire; ``Content-Length`` is added where there is a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")
