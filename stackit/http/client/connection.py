"""One connection to a remote: one request at a time, bounded in time, and closed at the first odd byte."""

from __future__ import annotations

from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from stackit.api.reactor import Timers
from stackit.http.client.errors import RemoteError
from stackit.http.client.response import Response
from stackit.http.client.response_parser import ResponseParser
from stackit.http.parsing import Malformed


class StaleConnection(Exception):
    """The connection closed before a byte of the response came: most likely it had been closed for long."""


class Connection(Protocol):
    """``closed`` fires when the connection is closed; ``last_used`` is when it was last asked."""

    transport: Any

    def __init__(self, reactor: Timers) -> None:
        self.closed: Deferred[None] = Deferred()
        self.is_closed = False
        self.last_used = 0.0
        self._reactor = reactor
        self._parser: ResponseParser | None = None
        self._response: Deferred[Response] | None = None
        self._timer: DelayedCall | None = None

    def request(self, data: bytes, limit: int, timeout: float) -> Deferred[Response]:
        """Send a request, and return its response, with a body of at most ``limit`` bytes, within ``timeout`` seconds.

        Fails with RemoteError, or StaleConnection. Nothing else may be asked meanwhile. Cancelling closes the
        connection.
        """
        response: Deferred[Response] = Deferred(self._cancelled)
        if self.is_closed:
            response.errback(Failure(StaleConnection()))
            return response
        self.last_used = self._reactor.seconds()
        self._parser, self._response = ResponseParser(limit), response
        self._timer = self._reactor.callLater(timeout, self._fail, RemoteError("timeout"))
        self.transport.write(data)
        return response

    @property
    def reusable(self) -> bool:
        """True where another request may be sent."""
        return not self.is_closed and self._response is None

    def abort(self) -> None:
        """Close the connection at once."""
        if not self.is_closed:
            self.is_closed = True
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            self.abort()  # a response to nothing
            return
        try:
            parser.receive(data)
        except Malformed:
            self._fail(RemoteError("protocol"))
            return
        if parser.ended:
            if not parser.persistent:
                self.abort()
            self._finish().callback(parser.response)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's
        self.is_closed = True
        if self._parser is not None:
            self._fail(RemoteError("unreachable") if self._parser.began else StaleConnection())
        self.closed.callback(None)

    def _fail(self, problem: Exception) -> None:
        self.abort()
        self._finish().errback(Failure(problem))

    def _finish(self) -> Deferred[Response]:
        """End the request at hand; returns its Deferred."""
        response, timer = self._response, self._timer
        assert response is not None  # noqa: S101 - for the type checker
        assert timer is not None  # noqa: S101 - for the type checker
        self._response = self._parser = self._timer = None
        if timer.active():
            timer.cancel()
        return response

    def _cancelled(self, _: Deferred[Response]) -> None:
        self._finish()
        self.abort()
