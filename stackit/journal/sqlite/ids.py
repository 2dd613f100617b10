"""Row numbers of SQLite, and the opaque ids that the rest of stackit has."""

from __future__ import annotations

from stackit.journal.records import EventId

NO_ROW = -1
_DIGITS = 18


def event_id(row: int) -> EventId:
    """Return the id of the event in a row."""
    return EventId(str(row))


def event_row(text: EventId) -> int:
    """Return the row of an event; ``NO_ROW``, which is never there, for text that no event has as its id."""
    if not 0 < len(text) <= _DIGITS or not (text.isascii() and text.isdecimal()) or text.startswith("0"):
        return NO_ROW
    return int(text)
