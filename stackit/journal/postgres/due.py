"""When work is due, by clocks that differ, and what is due before it."""

from __future__ import annotations

EARLY = 86400.0
"""Seconds by which the clocks of two receivers may differ: one that is minutes ahead holds up no event.

What was never tried is due as much before its time, which is that of the receiver: else an event could wait for a clock
to catch up, and a later one go ahead of it.
"""
EARLIER = 64
"""Handlings that a new one is told to wait for, at most, of any number in its repository: the latest, which wait for
those before them in turn."""


def is_due(row: str, now: str = "%(now)s") -> str:
    """Return the condition that a row of the table of work is due at a time."""
    return f"{row}.next_at <= {now} + CASE WHEN {row}.attempts = 0 THEN float8 '{EARLY}' ELSE float8 '0' END"
