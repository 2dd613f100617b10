"""A summary and its fields as one line: ``delivery accepted event=push repo=octo/widget``.

Lines are many, and their shapes few. What the lines of a shape share, the summary and the names, is prepared once; then
one pattern tells of a whole line whether each value is a plain word, as hardly ever one is more.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

_LONGEST = 500
_WORD = rf"[A-Za-z0-9_.:/@+*,-]{{1,{_LONGEST}}}"
_is_word = re.compile(_WORD).fullmatch


def key_values(summary: str, fields: dict[str, Any]) -> tuple[str, bool]:
    """The line, and whether all of it is printable and each value a plain word.

    A value that is more than a plain word is quoted, escaped and, but for a list, cut.
    """
    shape = _shape(summary, *fields)
    values = tuple(fields.values())
    line = shape.template % values
    if shape.is_plain(line):
        return line, True
    return shape.template % tuple(map(_quoted, values)), False


def cut(text: str) -> str:
    """``text`` as long as a value may be."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


class _Shape:
    def __init__(self, summary: str, names: list[str]) -> None:
        self.template = " ".join([_literal(summary), *(f"{_literal(name)}=%s" for name in names)])
        if summary.isprintable() and all(map(str.isidentifier, names)):
            pattern = " ".join([re.escape(summary), *(f"{name}={_WORD}" for name in names)])
        else:
            pattern = r"(?!)"  # never: what the lines share is not plain already
        self.is_plain = re.compile(pattern).fullmatch


@lru_cache(maxsize=256)
def _shape(summary: str, *names: str) -> _Shape:
    return _Shape(summary, [str(name) for name in names])


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else cut(str(value))
    return text if _is_word(text) else json.dumps(text)
