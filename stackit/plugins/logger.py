"""One log line for each thing that stackit did."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from twisted.logger import Logger as TwistedLogger
from twisted.logger import LogLevel

from stackit import Occurrence, hookimpl

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
_WARNINGS = {"failed", "replayed", "healed", "notice"}
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
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+*,-]+", re.ASCII)
_LONGEST_VALUE = 500
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
        summary = _SUMMARIES.get(occurrence.name, occurrence.name.replace("_", " "))
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
        texts = [value if type(value) is str else _text(value) for value in fields.values()]
        # One look at all of them: hardly ever is one more than a plain word.
        if not (all(texts) and _PLAIN.fullmatch("".join(texts))):
            texts = [_shown(text) for text in texts]
        line = summary + "".join([f" {field}={text}" for field, text in zip(fields, texts, strict=True)])
        fields["occurrence"] = name
        # What Logger.emit does, but for asking each time whether the level is one.
        event = {
            "log_logger": self._log,
            "log_level": level,
            "log_namespace": self._log.namespace,
            "log_source": None,
            "log_format": "{line}",
            "log_time": time.time(),
            "line": line,
            "summary": summary,
            "fields": fields,
        }
        self._publish(event)


def _is_quiet(occurrence: Occurrence) -> bool:
    return occurrence.cause == "backstop" and occurrence.outcome == "unchanged" and occurrence.error is None


def _level(occurrence: Occurrence) -> Any:
    if occurrence.name == "dead":
        return LogLevel.error
    return LogLevel.warn if occurrence.name in _WARNINGS or occurrence.error is not None else LogLevel.info


def _fields(occurrence: Occurrence) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in zip(_FIELDS, _VALUES(occurrence), strict=True):
        if value is None:
            continue
        if isinstance(value, float):
            fields[name] = round(value, 3)
        elif isinstance(value, int):
            fields[name] = value
        else:
            fields[name] = _cut(str(value))
    if occurrence.changes is not None:
        fields["count"] = len(occurrence.changes)
        # A first clone may bring 100,000 refs: the line shows some, the event has all.
        fields["refs"] = [f"{change.kind}:{_cut(change.ref)}" for change in occurrence.changes[:_MOST_REFS]]
    return fields


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _shown(text: str) -> str:
    """A value as ``key=value`` can hold it: quoted, and escaped, where it is more than a plain word."""
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
