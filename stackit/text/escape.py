"""Text of foreign origin, made fit for one line of a terminal or a log."""

from __future__ import annotations


def escape(text: str) -> str:
    """Return ``text`` with every character escaped that could end the line or move a terminal's cursor."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )
