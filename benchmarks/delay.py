"""A proxy that delays every byte, as a distant network does."""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import ClientFactory, Factory, Protocol


class _End(Protocol):
    """One end of a forwarded connection. What comes before the other end is there, waits."""

    transport: Any  # a zope interface, which mypy does not know

    def __init__(self, reactor: Any, seconds: float, *, open_in: float = 0.0) -> None:
        self.reactor, self.seconds = reactor, seconds
        self.open_at = reactor.seconds() + open_in
        self.other: _End | None = None
        self.early: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self.reactor.callLater(max(0.0, self.open_at - self.reactor.seconds()) + self.seconds, self._forward, data)

    def _forward(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def meet(self, other: _End) -> None:
        self.other = other
        other.transport.setTcpNoDelay(True)  # else a piece may wait until the one before is acknowledged
        for data in self.early:
            other.transport.write(data)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: ARG002 - Twisted's
        self.reactor.callLater(self.seconds, self._close)

    def _close(self) -> None:
        if self.other is not None:
            self.other.transport.loseConnection()


class DelayingProxy(Factory):
    """Forwards to a loopback port; each way takes half of ``latency`` seconds, on top of what it takes anyway.

    A connection takes one way and back to be made, as TCP's do: only then can its client send.
    """

    noisy = False

    def __init__(self, reactor: Any, port: int, latency: float) -> None:
        self._reactor, self._to, self._seconds = reactor, port, latency / 2
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self.port = int(self._port.getHost().port)

    def buildProtocol(self, _address: Any) -> Protocol:
        near = _End(self._reactor, self._seconds, open_in=2 * self._seconds)
        far = _End(self._reactor, self._seconds)

        class Onward(ClientFactory):
            noisy = False

            def buildProtocol(self, _address: Any) -> Protocol:
                return far

        def connected() -> None:
            near.meet(far)
            far.meet(near)

        far.connectionMade = connected  # type: ignore[method-assign]  # of this one connection
        self._reactor.connectTCP("127.0.0.1", self._to, Onward())
        return near

    async def close(self) -> None:
        await self._port.stopListening()
