"""A summary and its fields as one line: ``delivery accepted event=push repo=octo/widget``.

Lines are many, and their shapes few. What the lines of a shape share, the summary and the names, is prepared once; then
one pattern tells of a whole line whether each value is a plain word, as hardly ever one is more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from stackit.text.redaction import redacted

_LONGEST = 500
_WORD = rf"[A-Za-z0-9_.:/@+*,-]{{1,{_LONGEST}}}"
_is_word = re.compile(_WORD).fullmatch


class Shape:
    """What all lines with this summary and these names have in common."""

    __slots__ = ("is_plain", "names", "summary", "template")

    def __init__(self, summary: str, names: Sequence[str]) -> None:
        self.summary = summary
        self.names = tuple(map(str, names))
        self.template = " ".join([_literal(summary), *(f"{_literal(name)}=%s" for name in self.names)])
        if summary.isprintable() and summary == redacted(summary) and all(map(str.isidentifier, self.names)):
            pattern = " ".join([re.escape(summary), *(f"{name}={_WORD}" for name in self.names)])
        else:
            pattern = r"(?!)"  # never: what the lines share is not plain already
        self.is_plain = re.compile(pattern).fullmatch


class KeyValues(Mapping[str, Any]):
    """Fields, and the summary that they belong to: as a mapping, and as a line."""

    __slots__ = ("_shape", "_values")

    def __init__(self, shape: Shape, values: tuple[Any, ...]) -> None:
        self._shape = shape
        self._values = values

    @classmethod
    def of(cls, summary: str, fields: Mapping[str, Any]) -> KeyValues:
        return cls(_shape(summary, *fields), tuple(fields.values()))

    @property
    def summary(self) -> str:
        return self._shape.summary

    def line(self) -> tuple[str, bool]:
        """The line, and whether all of it is printable and each value a plain word.

        A value that is more than a plain word is quoted, escaped and, but for a list, cut.
        """
        shape = self._shape
        line = shape.template % self._values
        if shape.is_plain(line):
            return line, True
        return shape.template % tuple(map(_quoted, self._values)), False

    def text(self) -> str:
        """The line alone."""
        return self.line()[0]

    def __getitem__(self, name: str) -> Any:
        return dict(zip(self._shape.names, self._values, strict=True))[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shape.names)

    def __len__(self) -> int:
        return len(self._values)


def cut(text: str) -> str:
    """``text`` as long as a value may be."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


@lru_cache(maxsize=256)
def _shape(summary: str, *names: str) -> Shape:
    return Shape(summary, names)


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else cut(str(value))
    return text if _is_word(text) else json.dumps(text)
