"""The place at the end of an exception's description."""

from __future__ import annotations

import re

_PLACE = re.compile(r" \(in [^()]+, [^()]+:\d+\)$")


def without_place(text: str | None) -> str | None:
    """A description without its place, which is another line whenever a test is edited."""
    return None if text is None else _PLACE.sub("", text)
