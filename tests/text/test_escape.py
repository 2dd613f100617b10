"""Escaping of texts that other people chose."""

from __future__ import annotations

from typing import Any

import pytest

from stackit.text.escape import escape


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain Ünïcode", "plain Ünïcode"),
        ("two\nlines", "two\\nlines"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("line separator \u2028", "line separator \\u2028"),
        ("half a pair \udc80", "half a pair \\udc80"),
    ],
)
def test_what_could_end_a_line_or_move_the_cursor_is_escaped(text: Any, escaped: Any) -> None:
    assert escape(text) == escaped
    assert escape(escaped) == escaped
