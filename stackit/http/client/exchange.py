"""One request over a connection of its own, and a response that is read whole, or bit by bit as it comes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from stackit.api.reactor import Timers
from stackit.http.client.errors import RemoteError
from stackit.http.client.response_parser import ResponseParser
from stackit.http.parsing import Malformed

_ANY_LENGTH = 2**62
_KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""A host that went away without a word is missed after 20 seconds, though nothing is sent."""
_UNACKNOWLEDGED = 20_000

End = Literal["complete", "broken"]


class ResponseHead(msgspec.Struct, frozen=True):
    """The head of a response. ``length`` is that of the body in bytes, None for one in chunks."""

    status: int
    headers: Mapping[bytes, tuple[bytes, ...]]
    length: int | None


class Exchange(Protocol):
    """One request, and its response. No time limit but those that are given; a host that vanishes is noticed.

    The parts are asked for in turn: ``head``, then ``body`` or ``stream``. Each fails with RemoteError where the
    response breaks off. Cancelling, and ``abort``, close the connection.
    """

    transport: Any

    def __init__(self, reactor: Timers) -> None:
        self._reactor = reactor
        self._parser = ResponseParser(_ANY_LENGTH)
        self._waiting: Deferred[None] | None = None
        self._timer: DelayedCall | None = None
        self._problem: RemoteError | None = None
        self._received: Callable[[bytes], object] | None = None
        self._ended: Callable[[End], object] | None = None
        self.is_closed = False
        self._tell: list[Callable[[], object]] = []

    def when_closed(self, tell: Callable[[], object]) -> None:
        """Have a function called once when the connection is closed by either side; at once, if it is."""
        if self.is_closed:
            tell()
        else:
            self._tell.append(tell)

    async def head(self, request: bytes, *, within: float | None) -> ResponseHead:
        """Send a request, and return the head of its response, which has to come ``within`` so many seconds."""
        self.transport.write(request)
        await self._until(lambda: self._parser.has_head, within)
        return ResponseHead(self._parser.status, self._parser.headers, self._parser.length)

    async def body(self, limit: int, *, within: float) -> bytes:
        """Return the whole body, of a length that is known and at most ``limit``, within so many seconds."""
        if self._parser.length is None or self._parser.length > limit:
            self.abort()
            raise RemoteError("too_large")
        await self._until(lambda: self._parser.ended, within)
        self.abort()
        return self._parser.take()

    def stream(self, received: Callable[[bytes], object], ended: Callable[[End], object]) -> None:
        """Have ``received`` called with each piece of the body, and ``ended`` once, at its end."""
        self._received, self._ended = received, ended
        self._resume()
        self._hand_on()

    def pause(self) -> None:
        """Read no more of the body for now."""
        if not self.is_closed:
            self.transport.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if not self.is_closed:
            self.transport.resumeProducing()

    def give_up(self, reason: str) -> None:
        """Close the connection, and fail what is asked for, or end what comes bit by bit."""
        self._fail(reason)

    def abort(self) -> None:
        """Close the connection at once; nothing is called any more."""
        self._ended = self._received = None
        self._close()

    # What Twisted calls.

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        for option, value in (*_KEEP_ALIVE, (socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)):
            self.transport.socket.setsockopt(socket.IPPROTO_TCP, option, value)

    def dataReceived(self, data: bytes) -> None:
        if self._parser.ended:
            return  # nothing was asked that this could answer
        try:
            self._parser.receive(data)
        except Malformed:
            self._fail("protocol")
            return
        if self._received is not None:
            self._hand_on()
        elif self._parser.has_head and self._waiting is not None:
            self._wake()
        elif self._parser.has_head:
            self.pause()  # nobody has asked for the body yet

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._fail("unreachable" if reason.check(ConnectionClosed) else "tls")

    # -- within -----------------------------------------------------------------------

    async def _until(self, is_there: Callable[[], bool], within: float | None) -> None:
        if within is not None:
            self._timer = self._reactor.callLater(within, self._fail, "timeout")
        try:
            self._resume()
            while not is_there():
                if self._problem is not None:
                    raise self._problem
                self._waiting = Deferred(lambda _: self.abort())
                await self._waiting
        finally:
            self._waiting = None
            if self._timer is not None and self._timer.active():
                self._timer.cancel()

    def _close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self.transport.abortConnection()
        tell, self._tell = self._tell, []
        for each in tell:
            each()

    def _resume(self) -> None:
        if not self._parser.ended:
            self.resume()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def _hand_on(self) -> None:
        piece = self._parser.take()
        if piece and self._received is not None:
            self._received(piece)
        if self._parser.ended:
            self._finish("complete")
        elif self._problem is not None:
            self._finish("broken")

    def _finish(self, how: End) -> None:
        ended = self._ended
        self.abort()
        if ended is not None:
            ended(how)

    def _fail(self, reason: str) -> None:
        if self._problem is None:
            self._problem = RemoteError(reason)
        self._close()
        if not self._parser.ended and self._received is not None:
            self._finish("broken")
        self._wake()
