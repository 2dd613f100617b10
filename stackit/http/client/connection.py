"""One connection to a remote: one request at a time, bounded in time, and given up at the first odd byte."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor
from stackit.http.client.errors import RemoteError
from stackit.http.client.response_parser import Malformed, ResponseParser

ANSWER_TIMEOUT = 15.0
"""Seconds for a whole answer; git, which watches progress, does better with a slow one."""


class StaleConnection(Exception):
    """The connection closed before a byte of the answer came: most likely it had been closed for long."""


class Connection(Protocol):
    """``gone`` is set when it is closed; ``used_at`` is when it was last asked."""

    transport: Any

    def __init__(self, reactor: Reactor) -> None:
        self.gone = False
        self.used_at = 0.0
        self.ended: Deferred[None] = Deferred()
        self._reactor = reactor
        self._reading: ResponseParser | None = None
        self._answer: Deferred[ResponseParser] | None = None
        self._overdue: Any = None

    def ask(self, request: bytes, limit: int) -> Deferred[ResponseParser]:
        """The answer to a request, its body at most ``limit`` bytes. Fails with Unanswered, or HungUp.

        While it is not there, nothing else may be asked. Cancelling closes the connection.
        """
        answer: Deferred[ResponseParser] = Deferred(self._abandoned)
        if self.gone:
            answer.errback(Failure(StaleConnection()))
            return answer
        self.used_at = self._reactor.seconds()
        self._reading, self._answer = ResponseParser(limit), answer
        self._overdue = self._reactor.callLater(ANSWER_TIMEOUT, self._fail, RemoteError("timeout"))
        self.transport.write(request)
        return answer

    @property
    def reusable(self) -> bool:
        """Whether it may be asked again."""
        return not self.gone and self._answer is None

    def drop(self) -> None:
        """Close it at once; ``ended`` fires when it is closed."""
        if not self.gone:
            self.gone = True
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        reading = self._reading
        if reading is None:
            self.drop()  # an answer to nothing
            return
        try:
            reading.receive(data)
        except Malformed:
            self._fail(RemoteError("protocol"))
            return
        if reading.ended:
            if not reading.persistent:
                self.drop()
            self._over().callback(reading)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        self.gone = True
        if self._reading is not None:
            self._fail(RemoteError("unreachable") if self._reading.began else StaleConnection())
        self.ended.callback(None)

    def _fail(self, problem: Exception) -> None:
        self.drop()
        self._over().errback(Failure(problem))

    def _over(self) -> Deferred[ResponseParser]:
        """Nothing is asked any more; returns who waits for the answer."""
        answer = self._answer
        assert answer is not None  # noqa: S101 - for the type checker
        self._answer = self._reading = None
        if self._overdue.active():
            self._overdue.cancel()
        return answer

    def _abandoned(self, _: Deferred[ResponseParser]) -> None:
        self._over()
        self.drop()
