"""A log event as one line: text for people, JSON for programs, or only what a person beside it wants to see.

No value can start a line of its own or show a credential, whoever chose it. A ``traceback`` of an event (several lines)
is a field in JSON, and as text further lines, each with time, level and logger. What a handler logs or prints has
``delivery``, ``id`` and ``subscriber`` of the handling. An event that carries ``summary`` (a
constant text) and ``fields`` (a flat dictionary) is ``summary key=value …`` as text; JSON keeps them apart, with the
name of the ``occurrence`` where it has one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from twisted.logger import LogEvent, LogLevel, eventAsText
from twisted.python.failure import Failure

from stackit.api.errors import describe
from stackit.api.handling import current_fields
from stackit.api.tracebacks import traceback_of
from stackit.secrets.redactor import Redact
from stackit.text.escape import escape
from stackit.text.logfmt import KeyValues, cut
from stackit.text.redaction import may_have_credential, redacted
from stackit.text.times import rfc3339

LOUD = {LogLevel.warn, LogLevel.error, LogLevel.critical}
"""Levels that are written at once, and that a quiet log shows."""

Line = Callable[[LogEvent, Redact], str | None]
"""Returns an event as a line (with a traceback, as lines), without the end and without credentials; None leaves it out.

It is called where the event is logged: in the same thread, and in the context of the handler."""


def text_line(event: LogEvent, redact: Redact) -> str:
    """Return ``2026-11-23T18:43:29.123Z info [stackit] delivery accepted event=push …``."""
    said = event.get("fields")
    if said.__class__ is KeyValues:
        text = _clean_line(said, redact)
    elif _has_fields(event):
        text = _clean_fields(event["summary"], event["fields"], redact)
    else:
        text = f"{escape(redact(_text(event)))}{_of_handling(redact)}"
    failure = event.get("log_failure")
    if failure is not None:
        text = escape(redact(f"{text}: {_failure(failure, redact)}" if text else _failure(failure, redact)))
    time = rfc3339(event.get("log_time") or 0.0)
    heading = f"{time} {_heading(event.get('log_level'), event.get('log_namespace'))}"
    traceback = event.get("traceback")
    if traceback is None and failure is not None and failure.value is not None and current_fields() is not None:
        traceback = traceback_of(failure.value, redact)  # a handler logged it itself
    if traceback is None:
        return f"{heading} {text}"
    further = redact(_string(traceback)).rstrip("\n").split("\n")
    return "\n".join([f"{heading} {text}", *(f"{heading} | {escape(each)}" for each in further)])


def _of_handling(redact: Redact) -> str:
    """Return `` delivery=… id=… subscriber=…`` in a handler; nothing elsewhere."""
    fields = current_fields()
    return "" if fields is None else _clean_fields("", fields, redact)


def quiet_line(event: LogEvent, redact: Redact) -> str | None:
    """Return printed text as it is, and warnings and errors as text lines; None for everything else."""
    if event.get("log_namespace") == "stdout":
        return escape(redact(_text(event)))
    return text_line(event, redact) if event.get("log_level") in LOUD else None


def json_line(event: LogEvent, redact: Redact) -> str:
    """Return a JSON object with ``time``, ``level``, ``logger``, ``message`` and the event's own fields."""
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
        record |= _without_credentials(current_fields() or {}, redact)
    if event.get("traceback") is not None:
        record["traceback"] = redact(_string(event["traceback"]))
    failure = event.get("log_failure")
    if failure is not None:
        record |= {"error": _failure(failure, redact), "traceback": redact(_traceback(failure))}
    # Escaping all that is not ASCII also escapes the line separators that Unicode has.
    return json.dumps(record)


def _is_plain(said: Any) -> bool:
    """Return True for fields that are plain words without a sign of a credential, as nearly all are."""
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
    """Return ``value`` as JSON can hold it, without credentials: an object that JSON does not know becomes its text."""
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
    """Return the text of a value of any class, whose ``__str__`` may raise."""
    try:
        return str(value)
    except BaseException as fault:  # noqa: BLE001 - foreign code: a value that somebody logs costs nobody the line
        return f"<no text can be had of it: {describe(fault)}>"


def _text(event: LogEvent) -> str:
    return eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)


def _failure(failure: Failure, redact: Redact) -> str:
    """Return the exception as one line, with the place where it was raised."""
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
