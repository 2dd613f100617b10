"""One connection of a public listener, bounded in every direction: bytes in, one request at a time, bytes out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet import tcp
from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, IPushProducer, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import classImplements

from stackit.api.admin import RequestHead, Response
from stackit.http.server.request import Request
from stackit.http.server.request_parser import Malformed, RequestParser, is_request_line
from stackit.http.server.responses import OVERLOAD, TOO_SLOW, Refusal, serialize
from stackit.text.addresses import UNIX, client_network

if TYPE_CHECKING:
    from stackit.http.server.site import PublicSite

LINGER = 2.0
"""Seconds that a peer has to read its last answer, while what it still sends is thrown away."""

_SMALL_READ = 2**14
"""Bytes to take at once: most deliveries are smaller, and room that they do not fill costs time, too."""

_LARGE_READ = 2**18
"""Bytes to take at once of a large body; each read costs as much as hashing 16 KB."""

_LARGE_READERS = 16
"""Connections that may take so much at once, at the same time: the others wait for all of them."""

_TURN = 8
"""Requests of one connection that are read before others have their turn."""

_MOMENT = 0.001
"""Seconds before its deadline at which a connection may expire."""

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection:
    """``address`` is the peer's, ``client_network`` whose it is; ``held`` is how many bytes of body are in memory.

    ``_buffer`` is what has come and was not looked at yet: the beginning of a head, or requests sent
    ahead of the answer to the one before.
    """

    __slots__ = (
        "_advancing",
        "_between",
        "_buffer",
        "_deadline",
        "_half_closed",
        "_large_head",
        "_paused",
        "_recv",
        "_request",
        "_send",
        "_timer",
        "_timer_at",
        "_write_paused",
        "_yielded",
        "address",
        "client_network",
        "ended",
        "handling",
        "held",
        "site",
        "transport",
    )

    def __init__(self, site: PublicSite) -> None:
        self.site = site
        self.transport: Any = None
        self.address = ""
        self.client_network = ""
        self.held = 0
        self._buffer = b""
        self.ended = False
        """Whether the last answer is written, so that nothing that still comes counts."""
        self.handling = False
        """Whether a whole request waits for its answer."""
        self._request: Request | None = None
        self._send: Callable[[bytes], int] | None = None
        self._recv: Callable[[int], bytes] | None = None
        self._large_head = 0
        self._timer: Any = None
        self._timer_at = 0.0
        self._deadline = 0.0
        self._between = False
        self._advancing = False
        self._half_closed = False
        self._paused = False
        self._write_paused = False
        self._yielded = False

    # -- life ---------------------------------------------------------------------

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.connectionMade()

    def connectionMade(self) -> None:
        peer = self.transport.getPeer()
        self.address = UNIX if isinstance(peer, UNIXAddress) else str(getattr(peer, "host", "local"))
        self.client_network = client_network(self.address)
        if isinstance(self.transport, tcp.Connection):  # not what wraps one, which has more to do with bytes
            handle = self.transport.getHandle()
            self._send, self._recv = handle.send, handle.recv
        self.transport.bufferSize = _SMALL_READ
        self.transport.registerProducer(self, True)
        if self.site.limiter.enter(self):
            self._rewind(self.site.limits.deadline)
        else:
            self.refuse(OVERLOAD)

    def dataReceived(self, data: bytes) -> None:
        if self.ended:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self.handling or self._yielded:
            self._paused = True
            self.transport.pauseProducing()
            return
        begins, self._between = self._between, False
        self._advance()
        if begins and not (self.handling or self._between or self.ended):
            self._rewind(self.site.limits.deadline)  # of a request that did not come at once

    def readConnectionLost(self) -> None:
        """The peer sends nothing more: it may have closed only its half, and wait for the answer to what came whole."""
        self._half_closed = True
        if self.ended:
            self.transport.loseConnection()
        elif not self._busy():
            self._end()

    def writeConnectionLost(self) -> None:
        """Nothing: what the peer still sends is thrown away for a moment, see ``_end``."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: ARG002
        self.ended = True
        self.handling = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._request = None
        self.site.left(self)

    @property
    def head(self) -> RequestHead | None:
        """That of the request which is being read or handled."""
        return self._request.head if self._request is not None else None

    # -- reading ------------------------------------------------------------------

    def _advance(self) -> None:
        """Read what has come: one request, and the next once that is answered."""
        if self._advancing or self._yielded:  # called by an answer that was given at once: the loop below goes on
            return
        self._advancing = True
        left = _TURN
        try:
            while self._buffer and not self.ended and not self._write_paused and not self.handling:
                if self._request is None:
                    left -= 1
                    if left < 0:
                        self._yielded = True  # the smallest requests cost the most: a read may have hundreds
                        self.site.reactor.callLater(0, self._go_on)
                        break
                    if not self._read_head():
                        break
                if self._request is not None and not self.ended:
                    self._read_body(self._request)
        except Malformed as fault:
            self.refuse(fault.refusal)
        finally:
            self._advancing = False

    def _go_on(self) -> None:
        self._yielded = False
        self._advance_and_read()

    def _advance_and_read(self) -> None:
        """Read what has come, and then what comes, unless others have to be waited for before."""
        self._advance()
        if self._advancing or self._busy():
            return
        if self._half_closed:
            self._end()
        elif self._paused:
            self._paused = False
            self.transport.resumeProducing()

    def _busy(self) -> bool:
        """Whether there is enough to do without reading more."""
        return self.handling or self._write_paused or self._yielded or self.ended

    def _read_head(self) -> bool:
        """Whether there is a whole one."""
        if self._large_head:  # what was read is this head, or not one like the last
            self.transport.bufferSize, self._large_head = _SMALL_READ, 0
        self._buffer = buffer = self._buffer.lstrip(
            b"\r\n"
        )  # empty lines before a request mean nothing (RFC 9112, 2.2)
        end = buffer.find(b"\r\n\r\n")
        if end < 0 or end > self.site.limits.head:
            line, found, _ = buffer.partition(b"\r\n")
            if len(buffer) > self.site.limits.head or (found and not is_request_line(line)):
                raise Malformed
            return False
        parser = RequestParser(buffer[: end + 4])
        self._buffer = buffer[end + 4 :]
        self._request = request = Request(self, parser)
        request.begin()
        if not (request.whole or self.ended):
            if parser.length is not None and parser.length > _SMALL_READ and not request.body_sink.throttled:
                self._read_large(end + 4)
            if parser.expects:
                self._write(_CONTINUE)
            elif self._large_head and not self._buffer:
                self._read_now(parser.length or 0)
        return True

    def _read_large(self, head: int) -> None:
        """Take much at once, of a body whose head had so many bytes."""
        readers = self.site.large_readers
        if len(readers) < _LARGE_READERS:
            readers.add(self)
            self.transport.bufferSize, self._large_head = _LARGE_READ, head

    def _read_now(self, length: int) -> None:
        """Take what is here of a large body, whose head came alone: in one piece, it need never be copied."""
        if self._recv is not None:
            with suppress(OSError):  # not here yet, or no connection any more, which the transport finds out, too
                self._buffer = self._recv(min(length, _LARGE_READ))

    def _read_body(self, request: Request) -> None:
        if self._buffer and not request.whole:
            data, self._buffer = self._buffer, b""
            self._buffer = request.receive(data)
        if request.whole and not self.ended:
            self.site.large_readers.discard(self)
            self.handling = True
            self.site.limiter.arrived(self)
            request.process()

    # -- answering ----------------------------------------------------------------

    def answer(self, request: Request, response: Response) -> None:
        """Write the answer to the request at hand, and go on with the next. Raises TypeError."""
        last = not request.persistent or self.site.draining or (self._half_closed and not self._buffer)
        date = self.site.dates.line()
        self._write(serialize(response, date, last=last, with_body=request.method != b"HEAD"))
        self._request = None
        self.handling = False
        self.site.limiter.release(self)
        if last:
            self._end()
            return
        self.site.limiter.wait(self)
        self._between = not self._buffer
        if self._large_head:
            self.transport.bufferSize = self._large_head  # who sent a large body may send another, behind such a head
        self._rewind(self.site.limits.deadline)
        self._advance_and_read()

    def refuse(self, refusal: Refusal) -> None:
        """Turn the request away, whatever of it is still to come."""
        if not self.ended:
            self.site.refused(self.address, self.head, refusal)
            self.say(refusal)

    def say(self, refusal: Refusal) -> None:
        """The last answer on this connection."""
        if not self.ended:
            with_body = self.head is None or self.head.method != b"HEAD"
            date = self.site.dates.line()
            self._write(serialize(refusal.response, date, last=True, with_body=with_body))
            self._end()
            self._request = None

    def _write(self, data: bytes) -> None:
        """Hand it to the socket at once: the reactor's way, over its next turn, costs more than the answer itself."""
        if self._send is not None:
            try:
                sent = self._send(data)
            except OSError:
                sent = 0  # no room now, or no connection any more, which the transport finds out, too
            if sent == len(data):
                return
            self._send = None  # what is left, and all that follows it, keeps its order in the transport
            data = data[sent:]
        self.transport.write(data)

    # -- the end ------------------------------------------------------------------

    def evict(self) -> None:
        """Make room for others; see ``ConnectionLimiter``."""
        if self._idle():
            self._end(abort=True)
        else:
            self.refuse(OVERLOAD)

    def drop(self, *, abort: bool = False) -> None:
        """End it without a word: stackit stops."""
        self._end(abort=abort)

    def _end(self, *, abort: bool = False) -> None:
        """Close our half, and give the peer a moment to read: a reset would throw the answer away."""
        if self.ended and not abort:
            return
        self.ended = True
        self.handling = False
        self._buffer = b""
        self.site.large_readers.discard(self)
        self.site.limiter.leave(self)
        self.transport.unregisterProducer()
        if abort or self.site.too_many_draining:
            self.transport.abortConnection()
            return
        if self._half_closed or ISSLTransport.providedBy(self.transport):
            self.transport.loseConnection()  # TLS ends both halves at once
        else:
            self.transport.loseWriteConnection()
            self.transport.resumeProducing()
        self._rewind(LINGER)

    def _expired(self) -> None:
        self._timer = None
        left = self._deadline - self.site.reactor.seconds()
        if left > _MOMENT:
            self._set_timer(left)
        elif self.ended:
            self.transport.abortConnection()
        elif self.handling:
            self._rewind(self.site.limits.deadline)  # the request is here whole: this time is ours
        elif self._idle():
            self._end()
        else:
            self.refuse(TOO_SLOW)

    def _idle(self) -> bool:
        """Whether it only waits between two requests: nothing of the next one has come."""
        return self._between and not self._buffer

    def _rewind(self, seconds: float) -> None:
        """Expire after so many seconds. A timer that would be too early is left to find that out: few ever run."""
        self._deadline = self.site.reactor.seconds() + seconds
        if self._timer is not None and self._timer_at > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        self._timer = self.site.reactor.callLater(seconds, self._expired)
        self._timer_at = self._deadline

    # -- a peer that does not read its answers ----------------------------------------

    def pauseProducing(self) -> None:
        """Answer nothing more until what was written has gone out."""
        self._write_paused = self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._write_paused = False
        self._advance_and_read()

    def stopProducing(self) -> None:
        """Nothing: ``connectionLost`` comes too."""


# Not by a base or a decorator, for the sake of its slots: see setup.py.
classImplements(Connection, IProtocol, IHalfCloseableProtocol, IPushProducer)
