"""Events of the log made of the lines that plugins print, and of the records of Python's ``logging``."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from twisted.logger import LoggingFile, LogLevel, globalLogPublisher

from stackit.api.errors import describe
from stackit.api.tracebacks import traceback_of
from stackit.secrets.redactor import Redact
from stackit.text.redaction import LONGEST

_LEVELS = (
    (logging.CRITICAL, LogLevel.critical),
    (logging.ERROR, LogLevel.error),
    (logging.WARNING, LogLevel.warn),
    (logging.INFO, LogLevel.info),
)


_MOST_BEGUN = 8 * LONGEST
"""Characters of a line that are kept until it ends: more than a line of the log has, which is redacted and then cut."""

_MOST_NESTED = 8
"""Records that are logged while the text of another is made. An object may log itself in its ``__str__``."""


class LoggingBridge(logging.Handler):
    """A handler of the root logger that makes each record an event: with its level, its logger's name, its traceback.

    It has to be there before a plugin calls ``logging.basicConfig``, which then adds no handler of its own.
    """

    def __init__(self, redact: Redact) -> None:
        super().__init__()
        self._redact = redact
        self._before = logging.WARNING
        self._within = threading.local()  # the records whose text is being made

    def install(self, level: int) -> None:
        """Take the records of all loggers, from this level on."""
        root = logging.getLogger()
        self._before = root.level
        root.addHandler(self)
        root.setLevel(level)

    def set_level(self, level: int) -> None:
        """Take the records from this level on."""
        logging.getLogger().setLevel(level)

    def remove(self) -> None:
        """Leave ``logging`` as it was."""
        root = logging.getLogger()
        root.removeHandler(self)
        root.setLevel(self._before)

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record; never raises, and never drops one whose arguments do not fit."""
        nested = getattr(self._within, "count", 0)
        self._within.count = nested + 1
        try:
            message = record.getMessage() if nested < _MOST_NESTED else "a message that was logged by its own text"
        except BaseException as fault:  # noqa: BLE001 - foreign code: arguments make their own text
            # Not asked for its text a second time: it may be what raised.
            said = str.__str__(record.msg)[:200] if isinstance(record.msg, str) else "a message without a text"
            message = f"{said} ({describe(fault)})"
        finally:
            self._within.count = nested
        event: dict[str, Any] = {
            "log_level": next((level for number, level in _LEVELS if record.levelno >= number), LogLevel.debug),
            "log_namespace": record.name,
            "log_source": None,
            "log_time": record.created,
            "log_format": "{message}",
            "message": message,
        }
        raised = record.exc_info[1] if record.exc_info else None
        if raised is not None:
            event["traceback"] = traceback_of(raised, self._redact)
        globalLogPublisher(event)


class PrintedLines(LoggingFile):
    """A ``sys.stdout`` or ``sys.stderr`` whose lines become events, those of each thread by themselves."""

    def __init__(self, logger: Any, level: Any, encoding: str | None) -> None:
        super().__init__(logger, level, encoding)
        self._begun = threading.local()

    def write(self, text: str | bytes) -> None:
        """Add text; every line that it ends becomes an event."""
        if isinstance(text, bytes):
            text = text.decode(self.encoding, "replace")
        begun = getattr(self._begun, "line", "")
        *lines, rest = text.split("\n")
        if lines:
            lines[0], begun = begun + lines[0], ""
        self._begun.line = begun + rest[: _MOST_BEGUN - len(begun)]
        for line in lines:
            self.log.emit(self.level, format="{log_io}", log_io=line)


def keep_threads_lines_apart() -> None:
    """Have the lines of several threads not mix, where standard output and standard error go to the log."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is LoggingFile:
            setattr(sys, name, PrintedLines(stream.log, stream.level, stream.encoding))
