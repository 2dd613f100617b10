"""The connections to one host: a few that are kept, and a line for those who can wait."""

from __future__ import annotations

from collections import deque
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.defer import TimeoutError as TooSlow
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor
from stackit.http.client.connection import Connection, StaleConnection
from stackit.http.client.errors import RemoteError
from stackit.http.client.response_parser import ResponseParser
from stackit.http.client.tls import ClientTls, TlsFiles

CONNECT_TIMEOUT = 10.0
IDLE = 240.0
"""Seconds after which a connection that nobody used is closed."""

_UNREACHABLE = (ConnectError, DNSLookupError, TooSlow, OSError)
Address: TypeAlias = tuple[str, str, int]
"""Scheme, host and port."""


class ConnectionPool:
    """One host; at most ``most`` connections are kept, and as many patient requests are under way at once."""

    def __init__(self, reactor: Reactor, address: Address, most: int, files: TlsFiles = (None, None, None)) -> None:
        """``files`` are for TLS. Raises ValueError for a host that cannot have a certificate."""
        scheme, host, port = address
        self.quiet_until = 0.0
        """Until when the host wants to be asked less, by the reactor's clock."""
        self._reactor = reactor
        self._endpoint: Any = HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT)
        self._tls = ClientTls(host, files) if scheme == "https" else None
        self._most = most
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._connecting: set[Deferred[Any]] = set()
        self._patient = 0
        self._line: deque[Deferred[None]] = deque()
        self._closer: Any = None

    async def exchange(self, request: bytes, limit: int, *, patient: bool = False) -> ResponseParser:
        """The answer to a request, which may be made twice. Raises Unanswered.

        One that is ``patient`` waits for its turn among those, so that a crowd of them opens no crowd of connections.
        """
        if not patient:
            return await self._exchange(request, limit)
        if self._patient >= self._most:
            place: Deferred[None] = Deferred(self._line.remove)
            self._line.append(place)
            await place
        else:
            self._patient += 1
        try:
            return await self._exchange(request, limit)
        finally:
            if self._line:
                self._line.popleft().callback(None)
            else:
                self._patient -= 1

    async def close(self) -> None:
        """Close every connection. What is under way fails, and nothing may be asked any more."""
        if self._closer is not None:
            self._closer.cancel()
            self._closer = None
        for connecting in list(self._connecting):
            connecting.cancel()
        ended = [connection.ended for connection in self._open]
        for connection in list(self._open):
            connection.drop()
        await DeferredList(ended)

    async def _exchange(self, request: bytes, limit: int) -> ResponseParser:
        while self._idle:
            connection = self._idle.pop()
            if not connection.gone:
                try:
                    return await self._ask(connection, request, limit)
                except StaleConnection:
                    break  # it had been closed meanwhile. Asking changes nothing, so it may be done twice
        try:
            return await self._ask(await self._connect(), request, limit)
        except StaleConnection:
            raise RemoteError("unreachable") from None

    async def _ask(self, connection: Connection, request: bytes, limit: int) -> ResponseParser:
        reading = await connection.ask(request, limit)
        if connection.reusable:
            if len(self._idle) < self._most:
                self._idle.append(connection)
                self._watch()
            else:
                connection.drop()
        return reading

    async def _connect(self) -> Connection:
        connections = Factory.forProtocol(lambda: Connection(self._reactor))
        connections.noisy = False
        endpoint = self._endpoint
        try:
            if self._tls is not None:
                endpoint = wrapClientTLS(self._tls.options(), endpoint)
        except (ValueError, OSError):
            raise RemoteError("unreachable") from None  # git says which file it is
        connecting = endpoint.connect(connections)
        # The endpoint's own limit is for each address, and not for finding them.
        connecting.addTimeout(CONNECT_TIMEOUT, self._reactor, lambda *_: Failure(TooSlow()))
        self._connecting.add(connecting)
        try:
            connection: Connection = await connecting
        except _UNREACHABLE:
            raise RemoteError("unreachable") from None
        except ConnectingCancelledError:
            raise CancelledError from None
        finally:
            self._connecting.discard(connecting)
        self._open.add(connection)
        connection.ended.addCallback(lambda _: self._open.discard(connection))
        return connection

    def _watch(self) -> None:
        """Close, in a while, what was not used since."""
        if self._closer is None:
            self._closer = self._reactor.callLater(IDLE, self._close_idle)

    def _close_idle(self) -> None:
        self._closer = None
        now = self._reactor.seconds()
        for connection in self._idle:
            if now - connection.used_at >= IDLE:
                connection.drop()
        self._idle = [connection for connection in self._idle if not connection.gone]
        if self._idle:
            self._watch()
