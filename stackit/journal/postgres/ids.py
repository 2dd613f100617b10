"""Ids of events as text, and text of foreign origin as the database can hold it."""

from __future__ import annotations

from stackit.journal.postgres.schema import EVENT_IDS
from stackit.journal.records import EventId

NO_ROW = -1
"""The row of an event that is not there."""
_DIGITS = 16
"""As many as the largest id of an event has."""


def event_id(row: int) -> EventId:
    """Return the id of the event in a row."""
    return EventId(str(row))


def event_row(text: EventId) -> int:
    """Return the row of an event; ``NO_ROW``, which is never there, for text that no event has as its id."""
    if not 0 < len(text) <= _DIGITS or not (text.isascii() and text.isdecimal()) or text.startswith("0"):
        return NO_ROW
    row = int(text)
    return row if row < EVENT_IDS else NO_ROW


def storable(text: str) -> str:
    """Return text with surrogates and NUL, which PostgreSQL cannot hold, escaped."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text.replace("\0", "\\x00")
