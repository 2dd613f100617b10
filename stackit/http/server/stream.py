"""The body of a response that is written bit by bit, and never held for a client that does not read."""

from __future__ import annotations

from collections.abc import Callable

from twisted.python.failure import Failure

from stackit.http.messages import BodyStream, StreamEnd

MOST_UNREAD = 128 * 2**10
"""Bytes that a client may leave unread, beside one write and what the system holds for it."""


class ResponseStream:
    """A ``BodyStream`` of a connection."""

    __slots__ = ("_chunked", "_close", "_on_failure", "_pace", "_reason", "_tell", "_unread", "_write")

    def __init__(
        self,
        write: Callable[[bytes], object],
        close: Callable[[bool], object],
        on_failure: Callable[[Failure], object],
        *,
        chunked: bool,
    ) -> None:
        """``write`` and ``close`` are the connection's; ``close(True)`` cuts it. ``on_failure`` is told what is raised.

        ``chunked`` for HTTP/1.1: a client of HTTP/1.0 knows the end of a body by the end of the connection.
        """
        self._write = write
        self._close = close
        self._on_failure = on_failure
        self._chunked = chunked
        self._reason: StreamEnd | None = None
        self._tell: list[Callable[[StreamEnd], object]] = []
        self._pace: tuple[Callable[[], object], Callable[[], object]] | None = None
        self._unread: int | None = None  # bytes written while the client does not read; None while it does

    def begin(self, writer: Callable[[BodyStream], object]) -> None:
        """Hand the stream to its writer."""
        try:
            writer(self)
        except BaseException:  # noqa: BLE001 - whatever a handler does wrong is the end of this answer alone
            self._on_failure(Failure())
            self.cut("failed")

    def write(self, data: bytes) -> None:
        """Write the next bytes. A client that leaves too much unread is cut."""
        if self._reason is not None or not data:  # an empty chunk would be the last one
            return
        if self._unread is not None:
            self._unread += len(data)
            if self._unread > MOST_UNREAD:
                self.cut("slow")
                return
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self) -> None:
        """End the answer, and with it the connection."""
        self.complete("finished")

    def break_off(self) -> None:
        """End the answer as one that is not complete: with no last chunk, and no orderly end of the connection."""
        self.cut("failed")

    def pace(self, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        """Have a writer that can wait told when the client does not read, and when it has read all."""
        self._pace = (pause, resume)
        if self._unread is not None and self._reason is None:
            pause()

    def when_ended(self, tell: Callable[[StreamEnd], object]) -> None:
        """Have a function called once when the stream ends; at once, if it has ended."""
        if self._reason is None:
            self._tell.append(tell)
        else:
            tell(self._reason)

    # What the connection calls.

    def pause(self) -> None:
        """Note that the client does not read what is written."""
        self._unread = 0
        if self._pace is not None and self._reason is None:
            self._pace[0]()

    def resume(self) -> None:
        """Note that the client has read everything."""
        self._unread = None
        if self._pace is not None and self._reason is None:
            self._pace[1]()

    def complete(self, reason: StreamEnd) -> None:
        """End the body as one that is complete."""
        if self._reason is None:
            if self._chunked:
                self._write(b"0\r\n\r\n")
            self.over(reason, lambda: self._close(False))

    def cut(self, reason: StreamEnd) -> None:
        """End the connection at once."""
        self.over(reason, lambda: self._close(True))

    def over(self, reason: StreamEnd, close: Callable[[], object] = lambda: None) -> None:
        """Tell of the end, once."""
        if self._reason is not None:
            return
        self._reason = reason
        close()
        tell, self._tell = self._tell, []
        for each in tell:
            try:
                each(reason)
            except BaseException:  # noqa: BLE001 - the writer's own matter: the connection has ended
                self._on_failure(Failure())
