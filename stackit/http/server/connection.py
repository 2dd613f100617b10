"""One connection of a listener, bounded in every direction: bytes in, one request at a time, bytes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from stackit.http.messages import BodyStream, RequestHead, Response
from stackit.http.parsing import Malformed
from stackit.http.server.deadline import Deadline
from stackit.http.server.direct_socket import DirectSocket
from stackit.http.server.read_size import LARGE, ReadSize
from stackit.http.server.refusals import OVERLOAD, TOO_SLOW, Refusal, malformed
from stackit.http.server.request import Request
from stackit.http.server.request_parser import RequestParser, is_request_line
from stackit.http.server.responses import serialize, serialize_head
from stackit.http.server.state import CLOSED, DRAINING, HANDLING, IDLE, READING_BODY, READING_HEAD, STREAMING, YIELDED
from stackit.http.server.stream import ResponseStream
from stackit.text.addresses import UNIX, client_network

if TYPE_CHECKING:
    from stackit.http.server.site import BoundedSite

DRAIN_TIME = 2.0
"""Seconds that a client has to read its last response, while what it still sends is thrown away."""

_TURN = 8
"""Requests of one connection that are read before others have their turn."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Connection:
    """One connection. ``address`` is the client's, ``held`` how many bytes of body are in memory for it.

    ``client_network`` is what the connection counts for in the limiter.
    """

    # A thousand connections that idle should cost little.
    __slots__ = (
        "_advancing",
        "_buffer",
        "_deadline",
        "_half_closed",
        "_read_paused",
        "_read_size",
        "_request",
        "_socket",
        "_stream",
        "_unsent",
        "_write",
        "_write_paused",
        "address",
        "client_network",
        "held",
        "site",
        "state",
        "transport",
    )

    def __init__(self, site: BoundedSite) -> None:
        self.site = site
        self.transport: Any = None
        self.address = ""
        self.client_network = ""
        self.held = 0
        self.state = READING_HEAD
        self._buffer = b""
        """Bytes that were received and not looked at yet: the beginning of a head, or requests sent ahead."""
        self._request: Request | None = None
        self._stream: ResponseStream | None = None
        self._unsent = 0
        """Bytes of large responses that the client has not read yet."""
        self._socket: DirectSocket
        self._read_size: ReadSize
        self._write: Callable[[bytes], None]
        self._deadline = Deadline(site.reactor, self._expired)
        self._advancing = False
        self._half_closed = False
        self._read_paused = False
        self._write_paused = False

    # -- life ---------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._socket = DirectSocket(transport)
        self._write = self._socket.write
        self._read_size = ReadSize(transport, self.site.large_readers)
        self.connectionMade()

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        self.address = UNIX if isinstance(peer, UNIXAddress) else str(getattr(peer, "host", "local"))
        self.client_network = client_network(self.address)
        self.transport.registerProducer(self, True)
        if self.site.limiter.enter(self):
            self._deadline.restart(self.site.limits.deadline)
        else:
            self.refuse(OVERLOAD)

    def dataReceived(self, data: bytes) -> None:
        state = self.state
        if state >= STREAMING:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if state is HANDLING or state is YIELDED:
            self._read_paused = True
            self.transport.pauseProducing()
        elif state is IDLE:
            self.state = READING_HEAD
            self._advance()
            if READING_HEAD <= self.state <= READING_BODY:  # of a request that did not come at once
                self._deadline.restart(self.site.limits.deadline)
        else:
            self._advance()

    def readConnectionLost(self) -> None:
        """Note that the client sends nothing more. It may have closed only its half, and wait for the response."""
        self._half_closed = True
        if self.ended:
            self.transport.loseConnection()
        elif self._stream is not None:
            self._stream.cut("closed")  # a client that still reads is not told apart from one that has gone
        elif not self._is_busy():
            self._end()

    def writeConnectionLost(self) -> None:
        """Do nothing: what the client still sends is thrown away for a moment, see ``_end``."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002 - Twisted's
        self.state = CLOSED
        self._deadline.cancel()
        self._request = None
        self._read_size.release()
        self._count_unsent(0)
        self.site.connection_lost(self)
        if self._stream is not None:
            self._stream.over("closed")

    @property
    def ended(self) -> bool:
        """True once the last response is written: what still comes is thrown away."""
        return self.state >= DRAINING

    @property
    def head(self) -> RequestHead | None:
        """The head of the request that is being read or handled."""
        return self._request.head if self._request is not None else None

    # -- reading ------------------------------------------------------------------

    def _advance(self) -> None:
        """Read what has come: one request, and the next once that is answered."""
        if self._advancing:  # called by an answer that was given at once: the loop below goes on
            return
        self._advancing = True
        left = _TURN
        try:
            while self._buffer and not self._write_paused:
                if self.state is READING_HEAD:
                    left -= 1
                    if left < 0:
                        self.state = YIELDED  # the smallest requests cost the most: a read may have hundreds
                        self.site.reactor.callLater(0, self._go_on)
                        break
                    if not self._read_head():
                        break
                if self.state is not READING_BODY:
                    break
                self._read_body()
        except Malformed as problem:
            self.refuse(malformed(problem.detail))
        finally:
            self._advancing = False

    def _go_on(self) -> None:
        if self.state is YIELDED:
            self.state = READING_HEAD
            self._advance_and_read()

    def _advance_and_read(self) -> None:
        """Read what has come, and then what comes, unless others have to be waited for before."""
        self._advance()
        if self._advancing or self._is_busy():
            return
        if self._half_closed:
            self._end()
        else:
            self._resume_reading()

    def _resume_reading(self) -> None:
        if self._read_paused:
            self._read_paused = False
            self.transport.resumeProducing()

    def _is_busy(self) -> bool:
        """Return whether there is enough to do without reading more."""
        return self._write_paused or self.state is YIELDED or self.state >= HANDLING

    def _read_head(self) -> bool:
        """Begin the request whose head is here; returns whether one is."""
        if self._read_size.large_head:  # what was read is this head, or not one like the last
            self._read_size.shrink()
        buffer = self._buffer
        if buffer[0] in b"\r\n":  # empty lines before a request mean nothing (RFC 9112, 2.2)
            self._buffer = buffer = buffer.lstrip(b"\r\n")
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or end > self.site.limits.head:
            line, found, _ = buffer.partition(b"\r\n")
            if len(buffer) > self.site.limits.head or (found and not is_request_line(line)):
                raise Malformed
            return False
        parser = RequestParser(buffer[: end + 4])
        self._buffer = buffer[end + 4 :]
        self._request = request = Request(self, parser)
        self.state = READING_BODY
        request.begin()
        if not request.whole and self.state is READING_BODY:
            self._await_body(request, parser, end + 4)
        return True

    def _await_body(self, request: Request, parser: RequestParser, head: int) -> None:
        """Make ready for a body that is to come behind a head of so many bytes."""
        if not request.body_sink.throttled:
            self._read_size.grow(head, parser.length)
        if parser.expects:
            self._write(_CONTINUE)
        elif self._read_size.large_head and not self._buffer:
            # The head came alone: what is here of its body is read in one piece, which need never be copied.
            self._buffer = self._socket.read(min(parser.length or 0, LARGE))

    def _read_body(self) -> None:
        request = self._request
        assert request is not None  # noqa: S101 - for the type checker
        if self._buffer and not request.whole:
            data, self._buffer = self._buffer, b""
            self._buffer = request.receive(data)
        if request.whole and self.state is READING_BODY:
            if self._read_size.large_head:
                self._read_size.release()
            self.state = HANDLING
            self.site.limiter.arrived(self)
            request.process()

    # -- answering ----------------------------------------------------------------

    def answer(self, request: Request, response: Response) -> None:
        """Write the response to the request at hand, and go on with the next. Raises TypeError."""
        site = self.site
        if response.stream is not None:
            self._stream_answer(request, response, response.stream)
            return
        last = not request.persistent or site.stopping or (self._half_closed and not self._buffer)
        data = serialize(response, site.dates.line(), last=last, with_body=request.method != b"HEAD")
        self._write(data)
        if self._write_paused:
            self._count_unsent(self._unsent + len(data))
        self._request = None
        site.limiter.release(self)
        if last:
            self._end()
            return
        self.state = READING_HEAD if self._buffer else IDLE
        site.limiter.wait(self)
        if self._read_size.large_head:
            self._read_size.await_head()
        self._deadline.restart(site.limits.deadline)
        if not self._advancing:
            self._advance_and_read()

    def _stream_answer(self, request: Request, response: Response, writer: Callable[[BodyStream], object]) -> None:
        """Write the head of the last response of this connection, and have its body written bit by bit."""
        site = self.site
        self._write(serialize_head(response, site.dates.line(), chunked=request.knows_chunks))
        self._request = None
        self._buffer = b""  # no other request is answered here, which the head says
        site.limiter.release(self)
        if request.method == b"HEAD":
            self._end()
            return
        self.state = STREAMING
        self._stream = stream = ResponseStream(
            self._write, lambda abort: self._end(abort=abort), site.on_failure, chunked=request.knows_chunks
        )
        self._deadline.cancel()
        self._resume_reading()  # what comes is thrown away, but for the end of the connection
        if self._write_paused:
            self._pause_stream(stream)
        stream.begin(writer)
        if site.stopping:
            stream.complete("stop")
        elif self._half_closed:
            stream.cut("closed")

    def refuse(self, refusal: Refusal) -> None:
        """Turn the request away, whatever of it is still to come."""
        if not self.ended:
            self.site.on_refused(self.address, self.head, refusal)
            self.send_last(refusal)

    def send_last(self, refusal: Refusal) -> None:
        """Write the last response of this connection."""
        if not self.ended:
            with_body = self.head is None or self.head.method != b"HEAD"
            self._write(serialize(refusal.response, self.site.dates.line(), last=True, with_body=with_body))
            self._end()
            self._request = None

    # -- the end ------------------------------------------------------------------

    def evict(self) -> None:
        """Make room for others; see ``ConnectionLimiter``."""
        if self.state is IDLE:
            self._end(abort=True)
        else:
            self.refuse(OVERLOAD)

    def wind_down(self, idle: float) -> None:
        """Make the request at hand the last one.

        Where nothing of a request has come, one may come up to ``idle`` seconds after the last response, or after the
        connection was made. A body that is written bit by bit ends.
        """
        if self._stream is not None:
            self._stream.complete("stop")
        if self.state is READING_HEAD and not self._buffer:
            self.state = IDLE
        if self.state is IDLE:
            left = idle - (self.site.limits.deadline - self._deadline.left())
            if left > 0:
                self._deadline.restart(left)
            else:
                self._end()

    def arrived(self) -> tuple[int, int] | None:
        """Return how much of the request that is coming has arrived, to be compared; None where none is coming."""
        if not READING_HEAD <= self.state <= READING_BODY:
            return None
        return len(self._buffer), 0 if self._request is None else self._request.size

    def give_up(self) -> None:
        """Answer a request that has not arrived whole with a refusal; cut one that has no response yet."""
        if self.state in (IDLE, HANDLING, STREAMING):
            self.abort()
        else:
            self.refuse(TOO_SLOW)

    def abort(self) -> None:
        """End the connection at once, answered or not."""
        if self._stream is not None:
            self._stream.cut("stop")
        self._end(abort=True)

    def _end(self, *, abort: bool = False) -> None:
        """Close our half, and give the client a moment to read: a reset would throw the response away."""
        if self.ended and not abort:
            return
        self.state = DRAINING
        self._buffer = b""
        self._read_size.release()
        self.site.limiter.leave(self)
        self.transport.unregisterProducer()
        if abort or self.site.has_too_many_draining:
            self.transport.abortConnection()
            return
        if self._half_closed or ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()  # TLS ends both halves at once
        else:
            self.transport.loseWriteConnection()
            self.transport.resumeProducing()
        self._deadline.restart(DRAIN_TIME)

    def _expired(self) -> None:
        if self.state >= DRAINING:
            self.transport.abortConnection()
        elif self._stream is not None:
            self._stream.cut("slow")
        elif self.state is HANDLING:
            self._deadline.restart(self.site.limits.deadline)
        elif self.state is IDLE:
            self._end()
        else:
            self.refuse(TOO_SLOW)

    # -- a client that does not read its responses ------------------------------------

    def pauseProducing(self) -> None:
        """Answer nothing more until what was written has gone out."""
        was_paused, self._write_paused = self._write_paused, True
        if self._stream is not None:
            if not was_paused:  # the transport says it again with every write
                self._pause_stream(self._stream)
            return
        self._read_paused = True
        self.transport.pauseProducing()

    def _pause_stream(self, stream: ResponseStream) -> None:
        stream.pause()
        self._deadline.restart(self.site.limits.deadline)

    def resumeProducing(self) -> None:
        self._write_paused = False
        self._count_unsent(0)
        if self._stream is not None:
            self._stream.resume()
            self._deadline.cancel()
            return
        self._advance_and_read()

    def _count_unsent(self, size: int) -> None:
        self.site.unsent += size - self._unsent
        self._unsent = size

    def stopProducing(self) -> None:
        """Do nothing: ``connectionLost`` comes too."""
