"""Values as people read them on a page."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from stackit.text.escape import escape
from stackit.text.times import parse_rfc3339, relative

_TONES = {
    "good": ("done", "in_step", "ready", "ok", "active", "loaded", "visible", "accepted", "success", "on", "up"),
    "wait": (
        "pending",
        "behind",
        "cloning",
        "paused",
        "waiting",
        "queued",
        "off",
        "suspended",
        "held",
        "draining",
        "leaving",
    ),
    "bad": (
        "dead",
        "failing",
        "failed",
        "quarantined",
        "left_out",
        "refused",
        "error",
        "problem",
        "stalled",
        "away",
        "out",
    ),
}
_TONE_OF = {state: tone for tone, states in _TONES.items() for state in states}
_KEPT = frozenset("\n\t ")


def visible(value: Any) -> Any:
    """Return a text with every character escaped that could hide or turn around what is near it.

    That is what controls the direction of text, what has no width, and what cannot be encoded. Line ends stay.
    """
    if isinstance(value, str) and not isinstance(value, Markup) and not value.isprintable():
        return "".join(each if each in _KEPT else escape(each) for each in value)
    return value


def tone(state: str) -> str:
    """Return the tone of a state: ``good``, ``wait``, ``bad``, or ``plain`` for one that is none of these."""
    return _TONE_OF.get(state, "plain")


def words(name: str) -> str:
    """Return a name of the API as words: ``in step`` for ``in_step``."""
    return name.replace("_", " ")


def ago(at: str, now: float) -> str:
    """Return how far a time in RFC 3339 is from now: ``3 minutes ago``."""
    return relative(parse_rfc3339(at), now)


def clock(at: str) -> str:
    """Return a time in RFC 3339 as a date and a time of day: ``2026-11-23 18:43:29 UTC``."""
    return f"{at[:10]} {at[11:19]} UTC"


def number(count: float) -> str:
    """Return a number with its thousands apart: ``12,345``."""
    return f"{count:,}"


def duration(seconds: float | None) -> str:
    """Return a number of seconds in the unit that fits: ``12 ms``, ``1.4 s``, ``3 min``, ``2.5 h``."""
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
