"""A TCP relay that can be cut: both ends keep their connections, and nothing comes through, as in a partition."""

from __future__ import annotations

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection, Port
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor


class Relay(Factory):
    """Relays a free port of 127.0.0.1 to another port there, from ``__init__`` to ``close``.

    While it is cut, what is sent gets no further than the kernel, and a new connection is not served; ``heal`` lets all
    of it go on, as TCP does after a partition.
    """

    noisy = False

    def __init__(self, reactor: Reactor, port: int) -> None:
        self.host = "127.0.0.1"
        self.is_cut = False
        self.ends: set[_End] = set()
        self._target = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        self._port: Port = reactor.listenTCP(0, self, interface="127.0.0.1")
        self._connecting: set[Deferred[_End]] = set()
        self._empty: Deferred[None] | None = None

    @property
    def port(self) -> int:
        """Return the port of ``host`` to connect to."""
        return int(self._port.getHost().port)

    def cut(self) -> None:
        """Let nothing through any more."""
        self.is_cut = True
        self._port.stopReading()
        for end in self.ends:
            end.transport.pauseProducing()

    def heal(self) -> None:
        """Let everything through again."""
        if not self.is_cut:
            return
        self.is_cut = False
        self._port.startReading()
        for end in list(self.ends):
            end.transport.resumeProducing()

    def reset(self) -> None:
        """Abort every connection, as a firewall that forgets them."""
        for end in list(self.ends):
            end.transport.abortConnection()

    async def close(self) -> None:
        """Stop listening, abort every connection, and wait until the last is gone."""
        await maybeDeferred(self._port.stopListening)
        for connecting in list(self._connecting):
            connecting.cancel()
        if self.ends:
            self._empty = Deferred()
            self.reset()
            await self._empty

    def buildProtocol(self, addr: IAddress | None) -> _Client:  # noqa: ARG002 - Twisted's name
        return _Client(self)

    def connect(self, end: _End) -> Deferred[_End]:
        """Open the other half of a connection."""
        connecting: Deferred[_End] = connectProtocol(self._target, end)
        self._connecting.add(connecting)
        return connecting.addBoth(self._connected, connecting)

    def _connected(self, result: _End, connecting: Deferred[_End]) -> _End:
        self._connecting.discard(connecting)
        return result

    def gone(self, end: _End) -> None:
        """Forget an end of a connection."""
        self.ends.discard(end)
        if self._empty is not None and not self.ends and not self._empty.called:
            self._empty.callback(None)


class _End(Protocol):
    """One end of a relayed connection."""

    transport: Connection  # type: ignore[assignment]  # a TCP connection has no other

    def __init__(self, relay: Relay, other: _End | None = None) -> None:
        self._relay = relay
        self._other = other
        self._early: list[bytes] = []

    def connectionMade(self) -> None:
        self._relay.ends.add(self)
        if self._relay.is_cut:
            self.transport.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's name
        self._relay.gone(self)
        if self._other is not None and self._other.transport.connected:
            self._other.transport.loseConnection()


class _Client(_End):
    """The end that was connected to; it connects to the target."""

    def connectionMade(self) -> None:
        super().connectionMade()
        self._relay.connect(_End(self._relay, self)).addCallbacks(self._join, self._refused)

    def _join(self, other: _End) -> None:
        self._other = other
        if not self.transport.connected:
            other.transport.abortConnection()
        for data in self._early:
            other.transport.write(data)
        self._early.clear()

    def _refused(self, failure: Failure) -> None:
        failure.trap(ConnectError, ConnectingCancelledError)
        self.transport.abortConnection()
