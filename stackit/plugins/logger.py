"""One log line for each thing that stackit did."""

from __future__ import annotations

import json
import re
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
_PLAIN = re.compile(r"[A-Za-z0-9_.:/@+*,-]+", re.ASCII)
_LONGEST_VALUE = 500
_MOST_REFS = 20


class Logger:
    """Never logs a payload, a header or a request: an occurrence's own fields are all it shows."""

    def __init__(self) -> None:
        self._log = TwistedLogger(namespace="stackit")

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        summary = _SUMMARIES.get(occurrence.name, occurrence.name.replace("_", " "))
        fields = _fields(occurrence)
        line = " ".join([summary, *(f"{name}={_shown(value)}" for name, value in fields.items())])
        fields = {"occurrence": occurrence.name, **fields}
        self._log.emit(_level(occurrence), "{line}", line=line, summary=summary, fields=fields)


def _level(occurrence: Occurrence) -> Any:
    if occurrence.name == "dead":
        return LogLevel.error
    return LogLevel.warn if occurrence.name in _WARNINGS or occurrence.error is not None else LogLevel.info


def _fields(occurrence: Occurrence) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name in _FIELDS:
        value = getattr(occurrence, name)
        if isinstance(value, float):
            fields[name] = round(value, 3)
        elif isinstance(value, int):
            fields[name] = value
        elif value is not None:
            fields[name] = _cut(str(value))
    if occurrence.changes is not None:
        fields["count"] = len(occurrence.changes)
        # A first clone may bring 100,000 refs: the line shows some, the event has all.
        fields["refs"] = [f"{change.kind}:{_cut(change.ref)}" for change in occurrence.changes[:_MOST_REFS]]
    return fields


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"


def _shown(value: Any) -> str:
    """A value as ``key=value`` can hold it: quoted, and escaped, where it is more than a plain word."""
    text = ",".join(value) if isinstance(value, list) else str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
