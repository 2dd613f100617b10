"""A payload as JSON that folds, bounded in size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from stackit.html.filters import visible

_MOST_VALUES = 600
_MOST_DEPTH = 12
_LONGEST = 300
_OPEN = 0


def decoded(body: bytes) -> Any:
    """Return JSON decoded. A number of very many digits is text: Python makes no number of it. Raises ValueError."""
    return json.loads(body, parse_int=_number)


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _LONGEST else digits


def folded(value: Any) -> Markup:
    """Return a decoded payload as HTML.

    Objects and lists below the first fold. What is too much is left out, and told.
    """
    return _Folder().html(value, "", 0)


class _Folder:
    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def html(self, value: Any, name: str, depth: int) -> Markup:
        self._left -= 1
        label = Markup('<span class="json-key">{}</span> ').format(_text(name)) if name else Markup("")
        if not isinstance(value, dict | list) or not value:
            return Markup('<div class="json-row">{}{}</div>').format(label, _scalar(value))
        if depth >= _MOST_DEPTH or self._left <= 0:
            return Markup('<div class="json-row">{}<span class="muted">… {}</span></div>').format(label, _size(value))
        inner = self._inner(value, depth)
        if depth <= _OPEN:
            return Markup('<div class="json">{}</div>').format(inner)
        return Markup('<details><summary>{}<span class="muted">{}</span></summary>{}</details>').format(
            label, _size(value), inner
        )

    def _inner(self, value: dict[str, Any] | list[Any], depth: int) -> Markup:
        pairs = value.items() if isinstance(value, dict) else ((str(place), each) for place, each in enumerate(value))
        parts = []
        for shown, (name, each) in enumerate(pairs):
            if self._left <= 0:
                parts.append(Markup('<div class="json-row muted">… {} more</div>').format(len(value) - shown))
                break
            parts.append(self.html(each, name, depth + 1))
        return Markup("").join(parts)


def _scalar(value: Any) -> Markup:
    if isinstance(value, str):
        more = f" … {len(value) - _LONGEST} more characters" if len(value) > _LONGEST else ""
        return Markup('<span class="json-text">{}</span><span class="muted">{}</span>').format(
            _text(value[:_LONGEST]), more
        )
    if isinstance(value, Mapping):
        return Markup('<span class="muted">{}</span>').format("{}")
    if isinstance(value, list):
        return Markup('<span class="muted">[]</span>')
    said = (
        {None: "null", True: "true", False: "false"}.get(value) if value is None or isinstance(value, bool) else value
    )
    return Markup('<span class="json-word">{}</span>').format(said)


def _size(value: dict[str, Any] | list[Any]) -> str:
    count = len(value)
    what = "field" if isinstance(value, dict) else "item"
    return f"{count} {what}{'' if count == 1 else 's'}"


def _text(text: str) -> Markup:
    return escape(visible(text))
