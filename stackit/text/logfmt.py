"""A summary and its fields as one line: ``delivery accepted event=push repo=octo/widget``.

Many lines share few templates. A template (the summary and the names) is prepared once; one pattern over the whole
line then tells whether every value is a plain word, as nearly all are.
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


class LineTemplate:
    """The summary and the names that many lines share, with the pattern of a line whose values are plain words."""

    __slots__ = ("format", "is_plain", "names", "summary")

    def __init__(self, summary: str, names: Sequence[str]) -> None:
        self.summary = summary
        self.names = tuple(map(str, names))
        self.format = " ".join([_literal(summary), *(f"{_literal(name)}=%s" for name in self.names)])
        if summary.isprintable() and summary == redacted(summary) and all(map(str.isidentifier, self.names)):
            pattern = " ".join([re.escape(summary), *(f"{name}={_WORD}" for name in self.names)])
        else:
            pattern = r"(?!)"  # never: what the lines share is not plain already
        self.is_plain = re.compile(pattern).fullmatch


class KeyValues(Mapping[str, Any]):
    """The fields of one line and its summary: a mapping, which can be written as a line."""

    __slots__ = ("_template", "_values")

    def __init__(self, template: LineTemplate, values: tuple[Any, ...]) -> None:
        self._template = template
        self._values = values

    @classmethod
    def of(cls, summary: str, fields: Mapping[str, Any]) -> KeyValues:
        return cls(_template(summary, *fields), tuple(fields.values()))

    @property
    def summary(self) -> str:
        return self._template.summary

    def line(self) -> tuple[str, bool]:
        """Return the line, and True where all of it is printable and each value a plain word.

        A value that is more than a plain word is quoted, escaped and, but for a list, cut.
        """
        template = self._template
        line = template.format % self._values
        if template.is_plain(line):
            return line, True
        return template.format % tuple(map(_quoted, self._values)), False

    def text(self) -> str:
        """Return the line alone."""
        return self.line()[0]

    def __getitem__(self, name: str) -> Any:
        return dict(zip(self._template.names, self._values, strict=True))[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._template.names)

    def __len__(self) -> int:
        return len(self._values)


def cut(text: str) -> str:
    """Return ``text``, cut to the length that a value may have."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"


@lru_cache(maxsize=256)
def _template(summary: str, *names: str) -> LineTemplate:
    return LineTemplate(summary, names)


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else cut(str(value))
    return text if _is_word(text) else json.dumps(text)
