"""A proxy that opens tunnels, as companies have them: it is asked with CONNECT, and forwards bytes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone


class _Onward(Protocol):
    """The side of the target."""

    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.factory.near.joined(self)

    def dataReceived(self, data: bytes) -> None:
        self.factory.near.transport.write(data)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.factory.near.transport.loseConnection()


class _Near(Protocol):
    """The side of who asks."""

    transport: Any
    factory: Any

    def connectionMade(self) -> None:
        self.data = b""
        self.onward: Any = None
        self.factory.peers.append(self)

    def dataReceived(self, data: bytes) -> None:
        if self.onward is not None:
            self.onward.transport.write(data)
            return
        self.data += data
        if b"\r\n\r\n" in self.data:
            self.factory.requests.append(self.data)
            if self.factory.answer is not None:
                self.transport.write(self.factory.answer)
                return
            host, _, port = self.data.split()[1].decode().rpartition(":")
            factory: Any = ClientFactory.forProtocol(_Onward)
            factory.noisy, factory.near = False, self
            self.factory.reactor.connectTCP(host.strip("[]"), int(port), factory)

    def joined(self, onward: _Onward) -> None:
        self.onward = onward
        self.transport.write(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n")

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.factory.lost += 1
        if self.onward is not None:
            self.onward.transport.abortConnection()


class TunnelProxy(Factory):
    """``requests`` are the heads that came; ``answer`` is given in place of a tunnel, if it is set."""

    protocol = _Near
    noisy = False

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.answer: bytes | None = None
        self.requests: list[bytes] = []
        self.peers: list[Any] = []
        self.lost = 0
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.address = f"127.0.0.1:{self._port.getHost().port}"

    async def stop(self) -> None:
        for peer in self.peers:
            peer.transport.abortConnection()
        await maybeDeferred(self._port.stopListening)
