"""The public listener: exact paths, and bounds on everything that a stranger can make it hold.

``Connection`` bounds time, ``RequestParser`` form, ``Request`` the body, ``ConnectionLimiter`` all of them together.
HTTP/1.1 only: HTTP/2 ends at the proxy.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolNegotiationFactory
from twisted.internet.protocol import Factory
from zope.interface import implementer

from stackit.api.admin import RequestHead
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor
from stackit.http.server.connection import Connection
from stackit.http.server.limits import ConnectionLimiter
from stackit.http.server.responses import Dates, Refusal


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much strangers get.

    ``deadline``: seconds for a whole request. ``connections`` at once. ``memory``: bytes of
    bodies in memory at once. ``head``: bytes of a request's line and headers.
    """

    deadline: float = 30.0
    connections: int = 1024
    memory: int = 256 * 2**20
    head: int = 16 * 2**10


@implementer(IProtocolNegotiationFactory)
class PublicSite(Factory):
    """Serves ``routes``, by the exact bytes of the path: nothing is decoded, no slash more or less.

    A route leads to an ``IResource``, which may be a ``HeadHandler``, to see the head before the
    body is read. Any other path is ``otherwise``, or ``404``. Refusals that happen before a
    resource renders are observed as ``refused``. ``now`` returns seconds since the epoch, for the ``Date`` of answers.
    """

    noisy = False

    def __init__(
        self,
        routes: Mapping[bytes, Any],
        *,
        reactor: Reactor,
        observe: Callable[[Occurrence], None],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        otherwise: Any = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.reactor = reactor
        self.dates = Dates(now)
        self.limits = limits
        self.limiter = ConnectionLimiter(connections=limits.connections, memory=limits.memory)
        self.draining = False
        self._routes = dict(routes)
        self._otherwise = otherwise
        self._observe = observe
        self.large_readers: set[Connection] = set()
        self._connections: set[Connection] = set()
        self._empty: Deferred[None] | None = None

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]  # noqa: ARG002
        connection = Connection(self)
        self._connections.add(connection)
        return connection

    def acceptableProtocols(self) -> list[bytes]:
        """What a TLS client can choose from; without an answer, one that asks gets no connection."""
        return [b"http/1.1"]

    def getResourceFor(self, request: Any) -> Any:
        return self._routes.get(request.path, self._otherwise)

    def refused(self, client: str, head: RequestHead | None, refusal: Refusal) -> None:
        """Tell the observers about a request that was turned away."""
        head = head or RequestHead(client=client, method=b"", path=b"", headers={})
        self._observe(
            Occurrence(
                name="refused", reason=refusal.reason, status=refusal.response.status, client=client, request=head
            )
        )

    @property
    def too_many_draining(self) -> bool:
        """Whether no more connections can be given the time to read their last answer."""
        return len(self._connections) > 2 * self.limits.connections

    def left(self, connection: Connection) -> None:
        """A connection is gone."""
        self.limiter.leave(connection)
        self.large_readers.discard(connection)
        self._connections.discard(connection)
        if not self._connections and self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)

    def drain(self, grace: float) -> Deferred[None]:
        """Close what waits, let whole requests have their answer within ``grace`` seconds; fires when all are gone.

        Stop listening first.
        """
        self.draining = True
        for connection in tuple(self._connections):
            if not connection.handling:
                connection.drop(abort=True)
        empty: Deferred[None] = Deferred()
        if not self._connections:
            empty.callback(None)
            return empty
        self._empty = empty
        timer: Any = self.reactor.callLater(grace, self.abort)

        def gone(_: None) -> None:
            if timer.active():
                timer.cancel()

        return empty.addCallback(gone)

    def abort(self) -> None:
        """Cut every connection, answered or not."""
        for connection in tuple(self._connections):
            connection.drop(abort=True)
