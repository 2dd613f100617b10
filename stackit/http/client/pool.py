"""The connections to one host: a few that are kept, and a queue for requests that can wait."""

from __future__ import annotations

from collections import deque

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, DeferredList

from stackit.api.reactor import Reactor
from stackit.http.client.connection import Connection, StaleConnection
from stackit.http.client.connector import Address, Connector
from stackit.http.client.errors import RemoteError
from stackit.http.client.response import Response
from stackit.http.client.timeouts import Timeouts
from stackit.http.client.tls import TlsFiles
from stackit.text.units import seconds


class ConnectionPool:
    """The connections to one host; ``size`` are kept, and as many patient requests are under way at once."""

    def __init__(
        self,
        reactor: Reactor,
        address: Address,
        size: int,
        tls_files: TlsFiles = TlsFiles(),  # noqa: B008 - frozen
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
    ) -> None:
        """Raises ValueError for a host that cannot have a certificate."""
        self.timeouts = timeouts
        self._reactor = reactor
        self._connector = Connector(reactor, address, tls_files, timeouts)
        self.size = size
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._patient = 0
        self._queue: deque[Deferred[None]] = deque()
        self._idle_timer: DelayedCall | None = None

    async def request(self, data: bytes, limit: int, *, patient: bool = False, safe: bool = True) -> Response:
        """Send a request, as bytes, and return the response, with a body of at most ``limit`` bytes.

        Raises RemoteError. A ``patient`` request waits in a queue while many are under way, so that many of them
        open no more connections. One that is not ``safe`` must not reach the host twice: it goes over a connection
        of its own, since one that was kept may turn out to be closed only when the request is sent.
        """
        if not patient:
            return await self._request(data, limit, safe=safe)
        if self._patient >= self.size:
            turn: Deferred[None] = Deferred(self._queue.remove)
            self._queue.append(turn)
            await turn
        else:
            self._patient += 1
        try:
            return await self._request(data, limit, safe=safe)
        finally:
            if self._queue:
                self._queue.popleft().callback(None)
            else:
                self._patient -= 1

    async def close(self) -> None:
        """Close every connection. What is under way fails, and nothing may be asked any more."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        self._connector.cancel()
        closed = [connection.closed for connection in self._open]
        for connection in list(self._open):
            connection.abort()
        await DeferredList(closed)

    async def _request(self, data: bytes, limit: int, *, safe: bool) -> Response:
        while safe and self._idle:
            connection = self._idle.pop()
            if not connection.is_closed:
                try:
                    return await self._send(connection, data, limit)
                except StaleConnection:
                    break
        try:
            return await self._send(await self._connect(), data, limit)
        except StaleConnection:
            raise RemoteError("unreachable") from None

    async def _send(self, connection: Connection, data: bytes, limit: int) -> Response:
        response = await connection.request(data, limit, seconds(self.timeouts.answer))
        if connection.reusable:
            if len(self._idle) < self.size:
                self._idle.append(connection)
                self._start_idle_timer()
            else:
                connection.abort()
        return response

    async def _connect(self) -> Connection:
        connection = await self._connector.connect(lambda: Connection(self._reactor))
        self._open.add(connection)
        connection.closed.addCallback(lambda _: self._open.discard(connection))
        return connection

    def _start_idle_timer(self) -> None:
        if self._idle_timer is None:
            self._idle_timer = self._reactor.callLater(seconds(self.timeouts.idle), self._close_idle)

    def _close_idle(self) -> None:
        """Close the connections that were not used for long."""
        self._idle_timer = None
        now = self._reactor.seconds()
        for connection in self._idle:
            if now - connection.last_used >= seconds(self.timeouts.idle):
                connection.abort()
        self._idle = [connection for connection in self._idle if not connection.is_closed]
        if self._idle:
            self._start_idle_timer()
