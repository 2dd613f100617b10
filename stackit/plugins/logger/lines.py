"""The log line of an occurrence: summary and level from the table of occurrences, then every field that is set."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from twisted.logger import Logger, LogLevel

from stackit import OCCURRENCES, KeyValues, LineTemplate, Occurrence

_LEVELS = {"info": LogLevel.info, "warn": LogLevel.warn, "error": LogLevel.error}
_FIELDS = Occurrence.LOGGED
_VALUES = attrgetter(*_FIELDS)
_MOST_REFUSALS = 1000
_MINUTE = 60.0
_MOST_FORMS = 16
_UNUSUAL = ("backstop", "failed", "dead", "refs_changed")  # their lines have more than the fields that are set


class Lines:
    """Writes the lines.

    At most a thousand refused requests a minute have a line, or strangers could fill the disk with the log; the first
    line of the next minute has the number of the others. A look of the backstop that found nothing has no line: the
    line of the whole round has the number of those.
    """

    __slots__ = (
        "_clock",
        "_forms",
        "_log",
        "_minute_began",
        "_publish",
        "_quiet_looks",
        "_refusals",
    )

    def __init__(self, clock: Callable[[], float]) -> None:
        self._log = Logger(namespace="stackit")
        self._publish: Any = self._log.observer
        self._clock = clock
        self._minute_began = clock()
        self._refusals = 0
        self._quiet_looks = 0
        self._forms: dict[str, list[_Form]] = {name: [] for name in OCCURRENCES}

    def tell(self, occurrence: Occurrence) -> None:
        """Write the line of an occurrence, if it has one."""
        if occurrence.name == "synced" and _is_quiet(occurrence):
            self._quiet_looks += 1
            return
        if occurrence.name == "refused" and not self._has_room():
            return
        said = self._usual(occurrence)
        if said is None:
            fields = occurrence.fields()
            if occurrence.name == "backstop" and self._quiet_looks:
                fields["unchanged"], self._quiet_looks = self._quiet_looks, 0
            said = KeyValues.of(occurrence.summary, fields)
        self._write(_LEVELS[occurrence.level], occurrence.name, said, occurrence.traceback)

    def _usual(self, occurrence: Occurrence) -> KeyValues | None:
        """Return the line of an occurrence with the same fields as an earlier one of its name; None for another."""
        forms = self._forms.get(occurrence.name)
        if forms is None:
            return None  # a plugin's own: any number of names would be kept
        for form in forms:
            said = form.said(occurrence)
            if said is not None:
                return said
        names = [name for name, value in zip(_FIELDS, _VALUES(occurrence), strict=True) if value is not None]
        if 1 < len(names) < len(_FIELDS) - 1 and len(forms) < _MOST_FORMS and occurrence.name not in _UNUSUAL:
            forms.append(_Form(occurrence.summary, names))
        return None

    def _has_room(self) -> bool:
        """Count a refusal, and return True if it may have a line."""
        now = self._clock()
        if now - self._minute_began >= _MINUTE:
            left_out = self._refusals - _MOST_REFUSALS
            self._minute_began, self._refusals = now, 0
            if left_out > 0:
                said = KeyValues.of("requests were refused without a line", {"count": left_out})
                self._write(LogLevel.warn, "refused", said)
        self._refusals += 1
        return self._refusals <= _MOST_REFUSALS

    def _write(self, level: Any, name: str, said: KeyValues, traceback: str | None = None) -> None:
        # As Logger.emit does, without its check of the level.
        event = {
            "log_logger": self._log,
            "log_level": level,
            "log_namespace": "stackit",
            "log_source": None,
            "log_time": time.time(),
            # Twisted calls it for an observer that wants a text; ours make their own of what follows.
            "log_format": "{line()}",
            "line": said.text,
            "summary": said.summary,
            "fields": said,
            "occurrence": name,
        }
        if traceback is not None:
            event["traceback"] = traceback
        self._publish(event)


class _Form:
    """The line of occurrences of one name that have the same fields, as most have."""

    __slots__ = ("_nothing", "_others", "_seconds", "_template", "_values")

    def __init__(self, summary: str, names: Sequence[str]) -> None:
        """``names`` are some of ``_FIELDS``, in order: two at least, and not all but one, as ``attrgetter`` needs."""
        others = [name for name in _FIELDS if name not in names]
        self._template = LineTemplate(summary, names)
        self._values = attrgetter(*names)
        self._others = attrgetter(*others)
        self._nothing = (None,) * len(others)
        self._seconds = names.index("seconds") if "seconds" in names else None

    def said(self, occurrence: Occurrence) -> KeyValues | None:
        """Return the line of an occurrence; None for one with other fields."""
        values = self._values(occurrence)
        if None in values or self._others(occurrence) != self._nothing:
            return None
        if self._seconds is not None:
            rounded = int(values[self._seconds] * 1000 + 0.5) / 1000  # round() takes as long as the rest of the line
            values = (*values[: self._seconds], rounded, *values[self._seconds + 1 :])
        return KeyValues(self._template, values)


def _is_quiet(occurrence: Occurrence) -> bool:
    return occurrence.cause == "backstop" and occurrence.outcome == "unchanged" and occurrence.error is None
