"""One log line for each thing that stackit did."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any

from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogLevel

from stackit import Occurrence, hookimpl
from stackit.key_values import cut, key_values

_SUMMARIES = {
    "refused": "request refused",
    "accepted": "delivery accepted",
    "duplicate": "delivery was here before",
    "replayed": "signed body came back under a new delivery id",
    "handled": "event handled",
    "failed": "handler failed, will try again",
    "dead": "handler failed for good, kept as a dead letter",
    "recovered": "events from before the start are taken up again",
    "refs_changed": "refs changed",
    "synced": "looked at the remote",
    "detour": "push goes by git fetch",
    "visible": "pushed commit is visible",
    "unmanaged": "push for a repository that is not managed",
    "backstop": "backstop made its round",
    "healed": "mirror mended",
    "notice": "notice",
}
_LEVELS = {
    "failed": LogLevel.warn,
    "replayed": LogLevel.warn,
    "healed": LogLevel.warn,
    "notice": LogLevel.warn,
    "dead": LogLevel.error,
}
_FIELDS = (
    "event",
    "action",
    "repo",
    "delivery",
    "id",
    "plugin",
    "subscriber",
    "client",
    "status",
    "reason",
    "outcome",
    "state",
    "cause",
    "count",
    "attempts",
    "seconds",
    "retry_in",
    "error",
)
_VALUES = attrgetter(*_FIELDS)
_MOST_REFS = 20
_MOST_REFUSALS = 1000
_MINUTE = 60.0


class Logger:
    """Never logs a payload, a header or a request: an occurrence's own fields are all it shows.

    Of refused requests at most a thousand a minute have a line, or any stranger could fill the disk with our
    own log; the line that ends the silence tells how many had none. A look of the backstop that found nothing has no
    line either: the line of the whole round tells how many there were. ``clock`` returns seconds that never run
    backwards.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = TwistedLogger(namespace="stackit")
        self._publish: Any = self._log.observer
        self._clock = clock
        self._minute_began = clock()
        self._refusals = 0
        self._quiet_looks = 0

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        if occurrence.name == "synced" and _is_quiet(occurrence):
            self._quiet_looks += 1
            return
        if occurrence.name == "refused" and not self._has_room():
            return
        summary = _SUMMARIES.get(occurrence.name) or occurrence.name.replace("_", " ")
        fields = _fields(occurrence)
        if occurrence.name == "backstop" and self._quiet_looks:
            fields["unchanged"], self._quiet_looks = self._quiet_looks, 0
        self._write(_level(occurrence), summary, occurrence.name, fields)

    def _has_room(self) -> bool:
        """Count a refusal; whether it may have a line."""
        now = self._clock()
        if now - self._minute_began >= _MINUTE:
            left_out = self._refusals - _MOST_REFUSALS
            self._minute_began, self._refusals = now, 0
            if left_out > 0:
                self._write(LogLevel.warn, "requests were refused without a line", "refused", {"count": left_out})
        self._refusals += 1
        return self._refusals <= _MOST_REFUSALS

    def _write(self, level: Any, summary: str, name: str, fields: dict[str, Any]) -> None:
        # What Logger.emit does, but for asking each time whether the level is one.
        self._publish(
            {
                "log_logger": self._log,
                "log_level": level,
                "log_namespace": self._log.namespace,
                "log_source": None,
                "log_time": time.time(),
                # Twisted calls it for an observer that wants a text; ours make their own of what follows.
                "log_format": "{line()}",
                "line": partial(_line, summary, fields),
                "summary": summary,
                "fields": fields,
                "occurrence": name,
            }
        )


def _is_quiet(occurrence: Occurrence) -> bool:
    return occurrence.cause == "backstop" and occurrence.outcome == "unchanged" and occurrence.error is None


def _level(occurrence: Occurrence) -> Any:
    level = _LEVELS.get(occurrence.name)
    if level is None:
        return LogLevel.info if occurrence.error is None else LogLevel.warn
    return level


def _fields(occurrence: Occurrence) -> dict[str, Any]:
    fields = {name: value for name, value in zip(_FIELDS, _VALUES(occurrence), strict=True) if value is not None}
    if occurrence.seconds is not None:
        fields["seconds"] = round(occurrence.seconds, 3)
    if occurrence.retry_in is not None:
        fields["retry_in"] = round(occurrence.retry_in, 3)
    if occurrence.changes is not None:
        fields["count"] = len(occurrence.changes)
        # A first clone may bring 100,000 refs: the line shows some, the event has all.
        fields["refs"] = [f"{change.kind}:{cut(change.ref)}" for change in occurrence.changes[:_MOST_REFS]]
    return fields


def _line(summary: str, fields: dict[str, Any]) -> str:
    line, _ = key_values(summary, fields)
    return line
