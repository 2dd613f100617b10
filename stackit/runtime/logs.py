"""The log of the process: the service that puts stackit's observer in the place of twistd's.

Everything that is logged goes through it, also Twisted's own lines and failures.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import ILogObserver
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from stackit.api.errors import is_full_disk
from stackit.api.reactor import Reactor
from stackit.runtime.log_levels import LogLevels
from stackit.runtime.log_lines import json_line, quiet_line, text_line
from stackit.runtime.log_observer import LineObserver, Stream
from stackit.runtime.python_logging import LoggingBridge, keep_threads_lines_apart
from stackit.runtime.room import check_room
from stackit.runtime.stdout import NonBlockingStream
from stackit.secrets.redactor import Redact
from stackit.text.redaction import redacted


class LoggedService(MultiService):
    """A service whose application logs in ``log_format``, to the stream that twistd's own options name.

    ``text`` and ``json`` are lines for people and for programs; ``quiet`` shows printed text, warnings and errors
    alone. An operator's ``--logger`` and ``--syslog`` are left alone. Every line is passed through ``redact``.
    ``levels`` are those of the setting ``log_level``; ``bridge`` is installed already, and removed at the stop.
    """

    def __init__(
        self,
        service: Service,
        twistd: Mapping[str, Any] | None,
        log_format: str,
        reactor: Reactor,
        redact: Redact = redacted,
        *,
        levels: LogLevels | None = None,
        bridge: LoggingBridge | None = None,
    ) -> None:
        MultiService.__init__(self)
        self._levels = levels or LogLevels()
        self._bridge = bridge
        self._twistd = twistd or {}
        self._reactor = reactor
        self._redact = redact
        self._lines: LineObserver | None = None
        self._line = {"text": text_line, "json": json_line, "quiet": quiet_line}[log_format]
        MultiService.addService(self, service)

    def setServiceParent(self, parent: Any) -> None:
        """Give the application stackit's observer: twistd asks for it after this, and before any start."""
        if isinstance(parent, Componentized) and not self._twistd.get("syslog"):
            self._lines = LineObserver(_stream(self._twistd), self._line, self._redact, self._levels)
            parent.setComponent(ILogObserver, self._lines)
        MultiService.setServiceParent(self, parent)

    def startService(self) -> None:
        """Start the service, and hold lines until the end of a turn once the reactor runs."""
        if self._lines is not None:
            self._reactor.callWhenRunning(self._lines.hold, self._reactor)
        keep_threads_lines_apart()
        MultiService.startService(self)

    def set_level(self, setting: str | Mapping[str, str]) -> None:
        """Write from now on what ``setting``, a new value of ``log_level``, says."""
        self._levels = LogLevels(setting)
        if self._lines is not None:
            self._lines.levels = self._levels
        if self._bridge is not None:
            self._bridge.set_level(self._levels.lowest_number())

    def dropped_lines(self) -> int:
        """Return the number of lines dropped since the start: unread, or impossible to write."""
        return self._lines.dropped() if self._lines is not None else 0

    async def _stop(self) -> None:
        await maybeDeferred(MultiService.stopService, self)
        if self._bridge is not None:
            self._bridge.remove()
        if self._lines is not None:
            self._lines.release()

    def stopService(self) -> Deferred[None]:
        """Stop the service first, whose stop is logged, and then the log."""
        return Deferred.fromCoroutine(self._stop())


def _stream(twistd: Mapping[str, Any]) -> Stream:
    """Return the stream to which twistd's own options send the log.

    That is ``--logfile``, else standard output without a daemon, else twistd.log. Raises SystemExit for a daemon that
    is to log to standard output, and for a file that cannot be opened. One on a full disk is no reason not to start: it
    is told on standard error.
    """
    name: str = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    if name != "-":
        return _log_file(Path(name).absolute())
    if not twistd.get("nodaemon"):
        raise SystemExit("a daemon cannot log to standard output: leave out --logfile=-, or run twistd with -n")
    try:
        return NonBlockingStream(sys.stdout.fileno(), sys.stdout.encoding)
    except (AttributeError, OSError):  # there is none, or it is no descriptor
        return sys.stdout or io.StringIO()


def _log_file(path: Path) -> LogFile:
    """Return the log file; one that cannot be written for want of room is told on standard error."""
    try:
        file: LogFile = LogFile.fromFullPath(str(path))
    except OSError as problem:
        reason = "the disk is full" if is_full_disk(problem) else str(problem.strerror)
        text = f"stackit: the log file {path} cannot be opened: {reason}; name another one with --logfile=FILE"
        raise SystemExit(text) from None
    try:
        check_room(path.parent)
    except OSError as problem:
        if is_full_disk(problem):
            full = f"stackit: the disk is full: the log file {path} cannot be written; make room there"
            sys.stderr.write(f"{full}: lines are dropped until then\n")
    return file
