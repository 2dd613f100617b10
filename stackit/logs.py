"""What the process writes to its log: one line for each event, as text or as JSON.

Everything goes through here, Twisted's own lines and failures too, so that no value,
whoever chose it, can start a line of its own or show a credential. An event that carries
``summary`` (a constant text) and ``fields`` (a flat dictionary) keeps them apart in JSON.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from twisted.application.service import MultiService, Service
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.logfile import LogFile
from zope.interface import implementer

from stackit.times import rfc3339

LONGEST = 16_384
"""Characters of a text after which it is cut."""

# Most lines have none of the signs, and looking for those costs a hundredth of looking for the pattern.
_CREDENTIALS = (
    # The user part of a URL, up to the last @ before the path.
    (("://",), re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15}://)[^/\s]{1,1024}@"), r"\1***@"),
    (
        ("bearer ", "basic ", "token "),
        re.compile(r"(?i)\b(bearer|basic|token)( +)[A-Za-z0-9._~+/=-]{8,}"),
        r"\1\2***",
    ),
    (("gh", "github_pat_"), re.compile(r"\b(?:gh[a-z]_|github_pat_)[A-Za-z0-9_]{16,}"), "***"),
)

_LOUD = {LogLevel.warn, LogLevel.error, LogLevel.critical}

Line = Callable[[LogEvent], str | None]
"""An event as a line, without its end; None leaves it out."""


class Logged(MultiService):
    """A service whose application logs in ``log_format``, to where twistd's own options say.

    ``text`` and ``json`` are lines for people and for programs; ``quiet`` is what is
    printed, and beside it only warnings and errors. An operator's ``--logger`` and ``--syslog`` are
    left alone.
    """

    def __init__(self, service: Service, twistd: Mapping[str, Any] | None, log_format: str) -> None:
        MultiService.__init__(self)
        self._twistd = twistd or {}
        self._line = {"text": text_line, "json": json_line, "quiet": quiet_line}[log_format]
        MultiService.addService(self, service)

    def setServiceParent(self, parent: Any) -> None:
        """twistd asks the application for its observer after this, and before anything is started."""
        if isinstance(parent, Componentized) and not self._twistd.get("syslog"):
            parent.setComponent(ILogObserver, Lines(_stream(self._twistd), self._line))
        MultiService.setServiceParent(self, parent)


@implementer(ILogObserver)
class Lines:
    """An observer that writes each event as one line."""

    def __init__(self, stream: IO[str] | LogFile, line: Line) -> None:
        self._stream = stream
        self._line = line
        self._is_buffered = not isinstance(stream, LogFile)
        self._encoding = getattr(stream, "encoding", None) or "utf-8"

    def __call__(self, event: LogEvent) -> None:
        line = self._line(event)
        if line is None:
            return
        # A terminal that knows only ASCII must not cost us the line.
        if not line.isascii():
            line = line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        self._stream.write(line + "\n")
        if self._is_buffered:
            self._stream.flush()


def text_line(event: LogEvent) -> str:
    """``2026-11-23T18:43:29.123Z info [stackit] delivery accepted event=push …``."""
    text = _text(event)
    failure = event.get("log_failure")
    if failure is not None:
        text = f"{text}: {_failure(failure)}" if text else _failure(failure)
    return f"{_time(event)} {_level(event)} [{_clean(_namespace(event))}] {_clean(text)}"


def quiet_line(event: LogEvent) -> str | None:
    """What was printed as it is, warnings and errors as text, nothing else."""
    if event.get("log_namespace") == "stdout":
        return _clean(_text(event))
    return text_line(event) if event.get("log_level") in _LOUD else None


def json_line(event: LogEvent) -> str:
    """A JSON object with ``time``, ``level``, ``logger``, ``message`` and the event's own fields."""
    record: dict[str, Any] = {"time": _time(event), "level": _level(event), "logger": _namespace(event)}
    fields = event.get("fields")
    if isinstance(fields, Mapping):
        record |= {"message": event.get("summary", ""), **{key: fields[key] for key in fields if key not in record}}
    else:
        record["message"] = _text(event)
    failure = event.get("log_failure")
    if failure is not None:
        record |= {"error": _failure(failure), "traceback": failure.getTraceback()}
    # Escaping all that is not ASCII also escapes the line separators that Unicode has.
    return json.dumps(_without_credentials(record), default=str)


def one_line(text: str) -> str:
    """``text`` with everything escaped that could end the line or move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def _clean(text: str) -> str:
    return one_line(redacted(text))


def redacted(text: str) -> str:
    """``text`` of bounded length, with what looks like a credential replaced."""
    lower = text.lower()
    for signs, pattern, replacement in _CREDENTIALS:
        if any(sign in lower for sign in signs):
            text = pattern.sub(replacement, text)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def _without_credentials(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {str(key): _without_credentials(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_credentials(each) for each in value]
    return value


def _text(event: LogEvent) -> str:
    if event.get("log_format") == "{line}":
        return str(event.get("line"))
    return eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)


def _failure(failure: Failure) -> str:
    """The exception, and where it was raised."""
    place = ""
    if failure.frames:
        function, file, line = failure.frames[-1][:3]
        place = f" (in {function}, {Path(file).name}:{line})"
    return f"{failure.type.__name__ if failure.type else 'Failure'}: {failure.getErrorMessage()}{place}"


def _time(event: LogEvent) -> str:
    return rfc3339(event.get("log_time") or 0.0)


def _level(event: LogEvent) -> str:
    level = event.get("log_level")
    return str(level.name) if level is not None else "info"


def _namespace(event: LogEvent) -> str:
    return str(event.get("log_namespace") or "-")


def _stream(twistd: Mapping[str, Any]) -> IO[str] | LogFile:
    """Where twistd's own options send the log: ``--logfile``, standard output without a daemon, else twistd.log."""
    name: str = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if name != "-":
        file: LogFile = LogFile.fromFullPath(name)
        return file
    if not twistd.get("nodaemon"):
        raise SystemExit("a daemon cannot log to standard output: leave out --logfile=-, or run twistd with -n")
    return sys.stdout
