"""The log observer of stackit: every event becomes one line, and the lines of one turn of the reactor one write."""

from __future__ import annotations

import time
from threading import get_ident
from typing import IO

from twisted.logger import ILogObserver, LogEvent, LogLevel
from twisted.python.logfile import LogFile
from zope.interface import implementer

from stackit.api.reactor import Reactor
from stackit.runtime.log_levels import LogLevels
from stackit.runtime.log_lines import LOUD, Line
from stackit.runtime.stdout import NonBlockingStream
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted

_MOST_HELD = 64 * 2**10
"""Characters of lines that are held until the end of a turn of the reactor."""

Stream = IO[str] | LogFile | NonBlockingStream


@implementer(ILogObserver)
class LineObserver:
    """An observer that writes each event as one line, of those that ``levels`` does not hide.

    Between ``hold`` and ``release`` the lines of one turn of the reactor are written together: a write is most of what
    a line costs. A warning or an error is written at once, with all lines before it.
    """

    __slots__ = (
        "_dropped",
        "_encoding",
        "_held",
        "_is_buffered",
        "_line",
        "_reactor",
        "_redact",
        "_size",
        "_stream",
        "_thread",
        "_unreported",
        "levels",
    )

    def __init__(self, stream: Stream, line: Line, redact: Redact = redacted, levels: LogLevels | None = None) -> None:
        self.levels = levels or LogLevels()
        self._stream = stream
        self._line = line
        self._redact = redact
        self._is_buffered = not isinstance(stream, LogFile)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._reactor: Reactor | None = None
        self._thread = 0
        self._held: list[str] = []
        self._size = 0
        self._dropped = 0
        self._unreported = 0

    def __call__(self, event: LogEvent) -> None:
        if self.levels.hides(event):
            return
        line = self._line(event, self._redact)
        if line is None:
            return
        # A terminal that knows only ASCII must not cost us the line.
        if not line.isascii():
            line = line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        if self._reactor is None or get_ident() != self._thread:
            self._write(line + "\n")
            return
        self._held.append(line)
        self._size += len(line)
        if self._size > _MOST_HELD or event.get("log_level") in LOUD:
            self._flush()
        elif len(self._held) == 1:
            self._reactor.callLater(0, self._flush)

    def hold(self, reactor: Reactor) -> None:
        """Hold the lines of the calling thread, the reactor's, until the end of its turn."""
        self._reactor, self._thread = reactor, get_ident()
        if isinstance(self._stream, NonBlockingStream):
            self._stream.hold(reactor, self._dropped_line)

    def release(self) -> None:
        """Write the held lines, and hold none any more."""
        self._flush()
        self._reactor = None
        if isinstance(self._stream, NonBlockingStream):
            self._stream.release()

    def dropped(self) -> int:
        """Return the number of lines dropped since the start."""
        return self._stream.dropped if isinstance(self._stream, NonBlockingStream) else self._dropped

    def _dropped_line(self, count: int) -> str:
        event: LogEvent = {
            "log_time": time.time(),
            "log_level": LogLevel.warn,
            "log_namespace": "stackit",
            "summary": "log lines were dropped: nobody read them, or they could not be written",
            "fields": {"count": count},
        }
        return f"{self._line(event, self._redact)}\n"

    def _flush(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held:
            self._write("\n".join(held) + "\n")

    def _write(self, text: str) -> None:
        # The disk may be full, or the pipe closed: the lines are lost then, and what logs them, or a stop, goes on.
        try:
            if self._unreported:
                self._stream.write(self._dropped_line(self._unreported))
                self._unreported = 0
            self._stream.write(text)
            if self._is_buffered:
                self._stream.flush()
        except OSError:
            lines = text.count("\n")
            self._dropped += lines
            self._unreported += lines
