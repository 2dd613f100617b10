"""One connection of a public listener, bounded in every direction; twisted.web parses the HTTP.

What twisted.web leaves open is closed here: the time that a whole request may take, what is
malformed but would pass or raise, and how a connection ends when its request was turned away.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twisted.python.failure import Failure
from twisted.web import http

from stackit.requests import RequestHead
from stackit.web.answers import MALFORMED, OVERLOAD, TOO_SLOW, Refusal, last_words
from stackit.web.crowd import party

if TYPE_CHECKING:
    from stackit.web.site import PublicSite

LINGER = 2.0
"""Seconds that a peer has to read its last answer, while what it still sends is thrown away."""

_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32} [\x21-\x7e]{1,8192} HTTP/1\.[01]")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_LINE_BREAKS = re.compile(rb"[\x00\r\n]")


_Channel: Any = http.HTTPChannel  # twisted.web's own annotations are too few for a strict check


class Connection(_Channel):  # type: ignore[misc]
    """``address`` is the peer's, ``party`` whose it is; ``held`` is how many bytes of body are in memory."""

    site: PublicSite
    persistent: bool
    timeOut = None  # twisted's timeout is for idleness, and every byte starts it again

    def __init__(self) -> None:
        super().__init__()
        self.address = ""
        self.party = ""
        self.held = 0
        self.head: RequestHead | None = None
        self._timer: Any = None
        self._ended = False
        self._between = False

    # -- life ---------------------------------------------------------------------

    def connectionMade(self) -> None:
        super().connectionMade()
        self.address = str(getattr(self.getPeer(), "host", "local"))
        self.party = party(self.address)
        self.totalHeadersSize = self.site.limits.head
        if not self.site.crowd.enter(self):
            self._end(abort=True)
            return
        self._timer = self.site.reactor.callLater(self.site.limits.deadline, self._expired)

    def dataReceived(self, data: bytes) -> None:
        if self._ended:
            return
        if self._between and not self._handlingRequest:
            self._started()
        super().dataReceived(data)

    def connectionLost(self, reason: Failure) -> None:
        self._ended = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.site.left(self)
        super().connectionLost(reason)

    def requestDone(self, request: Any) -> None:
        """The answer is written: wait for the next request."""
        self.site.crowd.release(self)
        if self.persistent and self.site.draining:
            self.persistent = False
        if self.persistent:
            self.head = None
            self._between = True
            self.site.crowd.wait(self)
            self._rewind(self.site.limits.deadline)
        super().requestDone(request)

    def arrived(self) -> None:
        """The request is here whole: from now on the time is ours."""
        self.site.crowd.arrived(self)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    @property
    def ended(self) -> bool:
        """Whether the last answer is written, so that nothing that still comes counts."""
        return self._ended

    @property
    def handling(self) -> bool:
        """Whether a whole request waits for its answer."""
        return bool(self._handlingRequest) and not self._ended

    # -- the end ------------------------------------------------------------------

    def refuse(self, refusal: Refusal) -> None:
        """Turn the request away, whatever of it is still to come."""
        if not self._ended:
            self.site.refused(self.address, self.head, refusal)
            self.say(refusal)

    def say(self, refusal: Refusal) -> None:
        """The last answer on this connection."""
        if not self._ended:
            with_body = self.head is None or self.head.method != b"HEAD"
            self.transport.write(last_words(refusal.response, with_body=with_body))
            self._end()
            for request in self.requests:
                request.forget()

    def evict(self) -> None:
        """Make room for others; see ``Crowd``."""
        if self._idle():
            self._end(abort=True)
        else:
            self.refuse(OVERLOAD)

    def drop(self, *, abort: bool = False) -> None:
        """End it without a word: stackit stops."""
        self._end(abort=abort)

    def loseConnection(self) -> None:
        """End the connection once its answer is sent, as twisted.web wants after a last answer."""
        self._end()

    def _end(self, *, abort: bool = False) -> None:
        """Close our half, and give the peer a moment to read: a reset would throw the answer away."""
        if self._ended and not abort:
            return
        self._ended = True
        self.site.crowd.leave(self)
        self._networkProducer.unregisterProducer()
        if abort or self.site.full_of_lingerers:
            self.transport.abortConnection()
            return
        if self.isSecure():
            self.transport.loseConnection()  # TLS ends both halves at once
        else:
            self.transport.loseWriteConnection()
            self.transport.resumeProducing()
        self._rewind(LINGER)

    def _expired(self) -> None:
        if self._ended:
            self.transport.abortConnection()
        elif self._idle():
            self._end()
        else:
            self.refuse(TOO_SLOW)

    def _idle(self) -> bool:
        """Whether it only waits between two requests: nothing of the next one has come."""
        return self._between and not self._buffer

    def _started(self) -> None:
        self._between = False
        self._rewind(self.site.limits.deadline)

    def _rewind(self, seconds: float) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.reset(seconds)
        else:
            self._timer = self.site.reactor.callLater(seconds, self._expired)

    # -- parsing ------------------------------------------------------------------

    def lineReceived(self, line: bytes) -> None:
        if self._ended:
            return
        if self._between:
            self._started()
        in_head = hasattr(self, "_command")
        folded = line[:1] in (b" ", b"\t")
        if folded or _LINE_BREAKS.search(line) or not (in_head or not line or _REQUEST_LINE.fullmatch(line)):
            self.refuse(MALFORMED)
        else:
            super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:  # noqa: ARG002
        self.refuse(MALFORMED)

    def headerReceived(self, line: bytes) -> bool:
        if self._ended:
            return False
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        # int() raises for thousands of digits; a framing that two parsers may see differently is how
        # requests are smuggled past a proxy.
        if name == b"content-length":
            sound = _LENGTH.fullmatch(value) is not None
        elif name == b"transfer-encoding":
            sound = value.lower() == b"chunked" and self._version == b"HTTP/1.1"
        else:
            sound = True
        if not sound:
            self.refuse(MALFORMED)
        return sound and bool(super().headerReceived(line))

    def allHeadersReceived(self) -> None:
        if not self._ended:
            super().allHeadersReceived()

    def rawDataReceived(self, data: bytes) -> None:
        if not self._ended:
            super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        if not self._ended:
            super().allContentReceived()

    def setTimeout(self, period: float | None) -> float | None:  # noqa: ARG002
        """Nothing: the deadline is the site's."""
        return None

    def resetTimeout(self) -> None:
        """Nothing: bytes do not prolong a deadline."""

    def _send100Continue(self) -> None:
        if not self._ended:
            super()._send100Continue()

    def _respondToBadRequestAndDisconnect(self) -> None:
        self.refuse(MALFORMED)
