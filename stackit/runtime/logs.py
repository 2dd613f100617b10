"""What the process writes to its log: one line for each event, as text or as JSON.

Everything goes through here, Twisted's own lines and failures too, so that no value,
whoever chose it, can start a line of its own or show a credential. An event that carries
``summary`` (a constant text) and ``fields`` (a flat dictionary) is ``summary key=value …``
as text, and keeps them apart in JSON, with the name of the ``occurrence`` where it has one.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import IO, Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import implementer

from stackit.api.errors import describe
from stackit.api.reactor import Reactor
from stackit.runtime.stream import NonBlockingStream
from stackit.secrets.redactor import Redact
from stackit.text.escape import escape
from stackit.text.logfmt import KeyValues, cut
from stackit.text.redaction import may_have_credential, redacted
from stackit.text.times import rfc3339

_MOST_HELD = 64 * 2**10
"""Characters of lines that are held until the end of a turn of the reactor."""

_LOUD = {LogLevel.warn, LogLevel.error, LogLevel.critical}

Line = Callable[[LogEvent, Redact], str | None]
"""An event as a line, without its end and without credentials; None leaves it out."""


class LoggedService(MultiService):
    """A service whose application logs in ``log_format``, to where twistd's own options say.

    ``text`` and ``json`` are lines for people and for programs; ``quiet`` is what is
    printed, and beside it only warnings and errors. An operator's ``--logger`` and ``--syslog`` are
    left alone. No line has what ``redact`` takes away.
    """

    def __init__(
        self,
        service: Service,
        twistd: Mapping[str, Any] | None,
        log_format: str,
        reactor: Reactor,
        redact: Redact = redacted,
    ) -> None:
        MultiService.__init__(self)
        self._twistd = twistd or {}
        self._reactor = reactor
        self._redact = redact
        self._lines: LineObserver | None = None
        self._line = {"text": text_line, "json": json_line, "quiet": quiet_line}[log_format]
        MultiService.addService(self, service)

    def setServiceParent(self, parent: Any) -> None:
        """twistd asks the application for its observer after this, and before anything is started."""
        if isinstance(parent, Componentized) and not self._twistd.get("syslog"):
            self._lines = LineObserver(_stream(self._twistd), self._line, self._redact)
            parent.setComponent(ILogObserver, self._lines)
        MultiService.setServiceParent(self, parent)

    def startService(self) -> None:
        """Once the reactor runs, lines may wait for the end of its turn."""
        if self._lines is not None:
            self._reactor.callWhenRunning(self._lines.hold, self._reactor)
        MultiService.startService(self)

    def dropped_lines(self) -> int:
        """How many lines were dropped since the start, because nobody read them, or they could not be written."""
        return self._lines.dropped() if self._lines is not None else 0

    async def _stop(self) -> None:
        await maybeDeferred(MultiService.stopService, self)
        if self._lines is not None:
            self._lines.release()

    def stopService(self) -> Deferred[None]:
        """The service first, which has something to say about it."""
        return Deferred.fromCoroutine(self._stop())


@implementer(ILogObserver)
class LineObserver:
    """An observer that writes each event as one line.

    Between ``hold`` and ``release`` the quiet ones of one turn of the reactor are written together: a write is
    most of what a line costs. A loud one is written at once, with all before it.
    """

    __slots__ = ("_encoding", "_held", "_is_buffered", "_line", "_reactor", "_redact", "_size", "_stream", "_thread")

    def __init__(self, stream: IO[str] | LogFile | NonBlockingStream, line: Line, redact: Redact = redacted) -> None:
        self._stream = stream
        self._line = line
        self._redact = redact
        self._is_buffered = not isinstance(stream, LogFile)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._reactor: Reactor | None = None
        self._thread = 0
        self._held: list[str] = []
        self._size = 0

    def __call__(self, event: LogEvent) -> None:
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
        if self._size > _MOST_HELD or event.get("log_level") in _LOUD:
            self._flush()
        elif len(self._held) == 1:
            self._reactor.callLater(0, self._flush)

    def hold(self, reactor: Reactor) -> None:
        """Called in the reactor's thread; the lines of others are written at once."""
        self._reactor, self._thread = reactor, get_ident()
        if isinstance(self._stream, NonBlockingStream):
            self._stream.hold(reactor, self._dropped_line)

    def release(self) -> None:
        """Write what is held, and hold nothing any more."""
        self._flush()
        self._reactor = None
        if isinstance(self._stream, NonBlockingStream):
            self._stream.release()

    def dropped(self) -> int:
        """How many lines were dropped since the start."""
        return self._stream.dropped if isinstance(self._stream, NonBlockingStream) else 0

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
            # A log that cannot be written (the disk is full, the pipe is closed) costs its lines, and no turn or stop.
            with contextlib.suppress(OSError):
                self._write("\n".join(held) + "\n")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        if self._is_buffered:
            self._stream.flush()


def text_line(event: LogEvent, redact: Redact) -> str:
    """``2026-11-23T18:43:29.123Z info [stackit] delivery accepted event=push …``."""
    said = event.get("fields")
    if said.__class__ is KeyValues:
        text = _clean_line(said, redact)
    elif _has_fields(event):
        text = _clean_fields(event["summary"], event["fields"], redact)
    else:
        text = escape(redact(_text(event)))
    failure = event.get("log_failure")
    if failure is not None:
        text = escape(redact(f"{text}: {_failure(failure, redact)}" if text else _failure(failure, redact)))
    time = rfc3339(event.get("log_time") or 0.0)
    return f"{time} {_heading(event.get('log_level'), event.get('log_namespace'))} {text}"


def quiet_line(event: LogEvent, redact: Redact) -> str | None:
    """What was printed as it is, warnings and errors as text, nothing else."""
    if event.get("log_namespace") == "stdout":
        return escape(redact(_text(event)))
    return text_line(event, redact) if event.get("log_level") in _LOUD else None


def json_line(event: LogEvent, redact: Redact) -> str:
    """A JSON object with ``time``, ``level``, ``logger``, ``message`` and the event's own fields."""
    record: dict[str, Any] = {
        "time": rfc3339(event.get("log_time") or 0.0),
        "level": _level(event.get("log_level")),
        "logger": redact(_namespace(event.get("log_namespace"))),
    }
    if _has_fields(event):
        said = event["fields"]
        # Before anything is cut, which may leave of a credential what does not look like one.
        clean = str if _is_plain(said) else redact
        record["message"] = clean(str(event["summary"]))
        fields = _without_credentials(said, clean)
        record |= {key: _short(value) for key, value in fields.items() if key not in record}
        if "occurrence" in event:
            record["occurrence"] = event["occurrence"]
    else:
        record["message"] = redact(_text(event))
    failure = event.get("log_failure")
    if failure is not None:
        record |= {"error": _failure(failure, redact), "traceback": redact(_traceback(failure))}
    # Escaping all that is not ASCII also escapes the line separators that Unicode has.
    return json.dumps(record)


def _is_plain(said: Any) -> bool:
    """Whether fields are plain words without a sign of a credential, as those of hardly a line are not."""
    if said.__class__ is not KeyValues:
        return False
    line, is_plain = said.line()
    return is_plain and not may_have_credential(line)


@lru_cache(maxsize=256)
def _heading(level: Any, namespace: Any) -> str:
    return f"{_level(level)} [{escape(redacted(_namespace(namespace)))}]"


def _has_fields(event: LogEvent) -> bool:
    return "summary" in event and isinstance(event.get("fields"), Mapping)


def _clean_line(said: Any, redact: Redact) -> str:
    line, is_plain = said.line()
    return line if is_plain and not may_have_credential(line) else _clean_fields(said.summary, said, redact)


def _clean_fields(summary: object, fields: Mapping[str, Any], redact: Redact) -> str:
    said = KeyValues.of(escape(redact(_string(summary))), _without_credentials(fields, redact))
    # Before anything is cut or quoted, which may leave of a credential what does not look like one.
    return escape(redact(said.text()))


def _short(value: Any) -> Any:
    return cut(value) if isinstance(value, str) else value


def _without_credentials(value: Any, redact: Redact) -> Any:
    """What JSON can hold of ``value``: of a thing that it does not know, the text."""
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple):
        return [_without_credentials(each, redact) for each in value]
    if isinstance(value, Mapping):
        return {_string(key): _without_credentials(each, redact) for key, each in value.items()}
    return redact(_string(value))


def _string(value: Any) -> str:
    """The text of a value of any class, which may be unable to say it."""
    try:
        return str(value)
    except BaseException as fault:  # noqa: BLE001 - foreign code: a value that somebody logs costs nobody the line
        return f"<no text can be had of it: {describe(fault)}>"


def _text(event: LogEvent) -> str:
    return eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)


def _failure(failure: Failure, redact: Redact) -> str:
    """The exception, and where it was raised."""
    place = ""
    if failure.frames:
        function, file, line = failure.frames[-1][:3]
        place = f" (in {function}, {Path(file).name}:{line})"
    return f"{describe(failure.value, redact)}{place}"


def _traceback(failure: Failure) -> str:
    try:
        return failure.getTraceback()
    except BaseException as fault:  # noqa: BLE001 - foreign code: Twisted asks the class of the exception for its name
        return f"<no traceback can be had: {describe(fault)}>"


def _level(level: Any) -> str:
    return str(level.name) if level is not None else "info"


def _namespace(namespace: Any) -> str:
    return str(namespace or "-")


def _stream(twistd: Mapping[str, Any]) -> IO[str] | LogFile | NonBlockingStream:
    """Where twistd's own options send the log: ``--logfile``, standard output without a daemon, else twistd.log."""
    name: str = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if name != "-":
        file: LogFile = LogFile.fromFullPath(name)
        return file
    if not twistd.get("nodaemon"):
        raise SystemExit("a daemon cannot log to standard output: leave out --logfile=-, or run twistd with -n")
    try:
        return NonBlockingStream(sys.stdout.fileno(), sys.stdout.encoding)
    except (AttributeError, OSError):  # there is none, or it is no descriptor
        return sys.stdout or io.StringIO()
