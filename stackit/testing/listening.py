"""A web site on a loopback port that can be closed for good: no connection outlives it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol
from twisted.internet.tcp import Port
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from stackit.api.reactor import Reactor, sleep


class LoopbackSite:
    """A server of ``root`` on a free port of 127.0.0.1, from ``__init__`` to ``close``."""

    def __init__(self, reactor: Reactor, root: Resource) -> None:
        self._reactor = reactor
        site = _QuietSite(root, parsePOSTFormSubmission=False)  # type: ignore[no-untyped-call]  # it is Twisted's
        site.displayTracebacks = False
        self._connections = _Connections(site)  # type: ignore[no-untyped-call]  # it is Twisted's
        self._port: Port = reactor.listenTCP(0, self._connections, interface="127.0.0.1")

    @property
    def port(self) -> int:
        return int(self._port.getHost().port)

    async def close(self) -> None:
        """Stop listening, cut every connection, and wait until the last is gone."""
        await maybeDeferred(self._port.stopListening)
        await self._connections.cut()
        await sleep(self._reactor, 0)  # a connection leaves the list before its HTTP end knows


class _QuietSite(Site):
    noisy = False

    def log(self, request: Any) -> None:
        """Write no access log: it would drown a test's own output."""


class _Connections(WrappingFactory):
    """The open connections of a site."""

    noisy = False
    _empty: Deferred[None] | None = None

    async def cut(self) -> None:
        if not self.protocols:
            return
        self._empty = Deferred()
        for connection in list(self.protocols):
            connection.transport.abortConnection()
        await self._empty

    def unregisterProtocol(self, p: ProtocolWrapper | Protocol) -> None:
        super().unregisterProtocol(p)  # type: ignore[no-untyped-call]  # it is Twisted's
        if self._empty is not None and not self.protocols:
            self._empty.callback(None)
