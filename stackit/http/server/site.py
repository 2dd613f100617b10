"""A listener that serves exact paths, and bounds everything that a stranger can make it hold.

``Connection`` bounds time, ``RequestParser`` form, ``Request`` the body, ``ConnectionLimiter`` all of them together.
HTTP/1.1 only: HTTP/2 ends at the proxy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from zope.interface import implementer

from stackit.api.reactor import Timers
from stackit.http.server.connection import Connection
from stackit.http.server.interfaces import OnRefused, RequestHandler
from stackit.http.server.limits import ConnectionLimiter
from stackit.http.server.read_size import ReadSize
from stackit.http.server.responses import Dates
from stackit.http.server.state import State

SILENCE = 2.0
"""Seconds without a byte after which a request that has begun to come is given up, while a site winds down."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds on what clients can make a site hold.

    ``deadline``: seconds for a whole request. ``connections`` at once. ``memory``: bytes of
    bodies in memory at once. ``head``: bytes of a request's line and headers.
    """

    deadline: float = 30.0
    connections: int = 1024
    memory: int = 256 * 2**20
    head: int = 16 * 2**10


@implementer(IProtocolNegotiationFactory)
class BoundedSite(Factory):
    """Serves ``routes``, by the exact bytes of the path: nothing is decoded, no slash more or less; any other is 404.

    ``on_refused`` is told of each request that is refused before its handler had it whole, ``on_failure`` of what
    handlers raise. ``now`` returns seconds since the epoch, for the ``Date`` of responses.
    """

    noisy = False

    def __init__(
        self,
        routes: Mapping[bytes, RequestHandler],
        *,
        reactor: Timers,
        on_refused: OnRefused,
        on_failure: Callable[[Failure], object],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        now: Callable[[], float] = time.time,
    ) -> None:
        self.reactor = reactor
        self.on_refused = on_refused
        self.on_failure = on_failure
        self.dates = Dates(now)
        self.limits = limits
        self.limiter = ConnectionLimiter(connections=limits.connections, memory=limits.memory)
        self.stopping = False
        self.unsent = 0
        """Bytes of large responses that clients have not read yet."""
        self.large_readers: set[ReadSize] = set()
        self._routes = dict(routes)
        self._connections: set[Connection] = set()
        self._winding_down: list[_WindDown] = []

    def change_limits(self, *, deadline: float, memory: int) -> None:
        """Take other bounds, in seconds and bytes, for what begins to arrive from now on."""
        self.limits = msgspec.structs.replace(self.limits, deadline=deadline, memory=memory)
        self.limiter.memory = memory

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]  # noqa: ARG002 - no Protocol, but an IProtocol
        connection = Connection(self)
        self._connections.add(connection)
        return connection

    def acceptableProtocols(self) -> list[bytes]:
        """Return the protocols that a TLS client can choose from; without any, one that asks gets no connection."""
        return [b"http/1.1"]

    def find_handler(self, path: bytes, connection: Connection) -> RequestHandler | None:  # noqa: ARG002 - the base class's
        """Return the handler of a request; None for 404."""
        return self._routes.get(path)

    @property
    def has_too_many_draining(self) -> bool:
        """True where no more connections can be given the time to read their last response."""
        return len(self._connections) > 2 * self.limits.connections

    def connection_lost(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self.limiter.leave(connection)
        self._connections.discard(connection)
        for each in tuple(self._winding_down):
            each.leave(connection)

    def wind_down(self, grace: float, *, idle: float = 0.0) -> Deferred[None]:
        """Let every connection that is open have its last request answered; fires when all of these are gone.

        What has not arrived after ``grace`` seconds, or has no response by then, is given up, and so it is when the
        Deferred is cancelled; a request of which nothing more comes, after ``SILENCE`` seconds. A connection that idles
        is closed ``idle`` seconds after its last response, or after it was made: who sends all the time is told by a
        response that it is the last, and does not send into a connection that is being closed. Connections may come in
        meanwhile; each has one request. To let these end as well, stop listening, and call this again.
        """
        self.stopping = True
        winding_down = _WindDown(self.reactor, self._connections, grace)
        self._winding_down.append(winding_down)
        for connection in tuple(self._connections):
            connection.wind_down(idle)
        return winding_down.over.addBoth(lambda _: self._winding_down.remove(winding_down))

    def count_requests(self) -> int:
        """Return the number of requests that have begun to arrive, and have no response."""
        return sum(State.READING_HEAD <= each.state <= State.HANDLING for each in self._connections)

    def abort(self) -> None:
        """Cut every connection, answered or not."""
        for connection in tuple(self._connections):
            connection.abort()


class _WindDown:
    """The last requests of some connections. ``over`` fires when all are closed; cancelling it gives them up."""

    def __init__(self, reactor: Timers, connections: Iterable[Connection], grace: float) -> None:
        self._left = set(connections)
        self.over: Deferred[None] = Deferred(lambda _: self._give_up())
        self._arrived = {each: each.arrived() for each in self._left}
        self._reactor = reactor
        self._timers = [reactor.callLater(grace, self._give_up), reactor.callLater(SILENCE, self._look)]
        self._end_if_over()

    def leave(self, connection: Connection) -> None:
        """Note that a connection is closed."""
        self._left.discard(connection)
        self._end_if_over()

    def _look(self) -> None:
        """Give up what has not moved since the last look."""
        self._timers[1] = self._reactor.callLater(SILENCE, self._look)
        for connection in tuple(self._left):
            before, self._arrived[connection] = self._arrived[connection], connection.arrived()
            if before is not None and before == self._arrived[connection]:
                connection.give_up()

    def _give_up(self) -> None:
        for connection in tuple(self._left):
            connection.give_up()

    def _end_if_over(self) -> None:
        if not self._left and not self.over.called:
            for timer in self._timers:
                if timer.active():
                    timer.cancel()
            self.over.callback(None)
