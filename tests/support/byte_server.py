"""A server that writes any bytes it is told to, on a loopback port."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import protocol
from twisted.internet.defer import maybeDeferred

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n0000"


class Peer(protocol.Protocol):
    """One connection: answers each whole request with the next of the server's answers."""

    transport: Any  # a zope interface, which mypy does not know

    def connectionMade(self) -> None:
        self.server: ByteServer = self.factory
        self.data = b""
        self.gone = False
        self.server.peers.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            told = self.data[:end].lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            length = int(told or 0)
            if len(self.data) < end + 4 + length:
                return
            self.server.requests.append(self.data[: end + 4 + length])
            self.data = self.data[end + 4 + length :]
            answer = self.server.answers.pop(0) if self.server.answers else self.server.default
            if callable(answer):
                answer(self)
            else:
                self.transport.write(answer)

    def connectionLost(self, reason: Any = protocol.connectionDone) -> None:
        self.gone = True
        self.server.lost += 1


class ByteServer(protocol.Factory):
    """``answers`` are bytes to write, or functions that are called with the peer; ``default`` is written once
    there are none. ``requests`` is what came."""

    protocol = Peer
    noisy = False

    def __init__(self, reactor: Any, default: bytes = OK) -> None:
        self.default = default
        self.answers: list[bytes | Callable[[Any], object]] = []
        self.requests: list[bytes] = []
        self.peers: list[Any] = []
        self.lost = 0
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port = self._port.getHost().port

    async def stop(self) -> None:
        for peer in self.peers:
            if not peer.gone:
                peer.transport.abortConnection()
        await maybeDeferred(self._port.stopListening)
