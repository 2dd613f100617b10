"""A network between a client and a server that a test can cut: bytes are held back, and no connection is closed."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone


class _End(Protocol):
    """One end of a connection through the link. ``other`` is the other one, once it is there."""

    transport: Any
    link: HeldLink
    other: _End | None = None

    def connectionMade(self) -> None:
        self.waiting = bytearray()
        self.link.ends.add(self)
        if self.other is None:
            self.link.connect(self)
        else:
            self.other.other = self
            self.other.pass_on()

    def dataReceived(self, data: bytes) -> None:
        self.waiting += data
        self.pass_on()

    def pass_on(self) -> None:
        """Give the other end what came, unless the link is cut."""
        if self.other is not None and not self.link.is_cut and self.waiting:
            self.other.transport.write(bytes(self.waiting))
            self.waiting.clear()

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self.link.ends.discard(self)
        if self.other is not None:
            self.other.transport.abortConnection()


class HeldLink:
    """Forwards a port of 127.0.0.1 to another one. While it is cut, nothing passes in either direction."""

    def __init__(self, reactor: Any, port: int) -> None:
        self.reactor = reactor
        self.is_cut = False
        self.ends: set[_End] = set()
        self._target = port
        near: Any = Factory.forProtocol(self._end)
        near.noisy = False
        self._listening = reactor.listenTCP(0, near, interface="127.0.0.1")
        self.port = self._listening.getHost().port

    def _end(self, other: _End | None = None) -> _End:
        end = _End()
        end.link, end.other = self, other
        return end

    def connect(self, near: _End) -> None:
        """Connect to the server for a client that came."""
        far: Any = ClientFactory()
        far.buildProtocol = lambda _: self._end(near)
        far.clientConnectionFailed = lambda *_: near.transport.abortConnection()
        far.noisy = False
        self.reactor.connectTCP("127.0.0.1", self._target, far)

    def cut(self) -> None:
        """Let nothing pass any more."""
        self.is_cut = True

    def heal(self) -> None:
        """Let pass what was held back, and what comes."""
        self.is_cut = False
        for end in tuple(self.ends):
            end.pass_on()

    def end(self) -> None:
        """End all connections."""
        for end in tuple(self.ends):
            end.transport.abortConnection()

    async def close(self) -> None:
        """Listen no longer, and end all connections."""
        await self._listening.stopListening()
        self.end()
