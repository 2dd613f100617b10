"""Tables for people at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from stackit.text.escape import escape

_GAP = "  "
_STATE = "STATE"
_BOLD, _GREEN, _YELLOW, _RED = "1", "32", "33", "31"
Tone = Literal["good", "doubtful", "bad"]
_TONES: dict[Tone, str] = {"good": _GREEN, "doubtful": _YELLOW, "bad": _RED}
_COLORS = {
    **dict.fromkeys(("done", "in_step", "ready"), _GREEN),
    **dict.fromkeys(("pending", "behind", "cloning"), _YELLOW),
    **dict.fromkeys(("dead", "failing", "quarantined", "suspended", "no_access", "not ready"), _RED),
}


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, color: bool = False) -> str:
    """Lay out rows in columns, each as wide as its widest cell; None shows as ``-``. Ends with a newline.

    With ``color`` the header is bold, and a column STATE has the colors of its states.
    """
    cells = [list(header), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for number, row in enumerate(cells):
        padding = [" " * (width - len(cell)) for cell, width in zip(row, widths, strict=True)]
        padding[-1] = ""
        styles = [
            _BOLD if number == 0 else _COLORS.get(cell) if name == _STATE else None
            for cell, name in zip(row, header, strict=True)
        ]
        shown = [_styled(cell, style) if color else cell for cell, style in zip(row, styles, strict=True)]
        lines.append(_GAP.join(map("".join, zip(shown, padding, strict=True))).rstrip())
    return "".join(f"{line}\n" for line in lines)


def fields(values: Mapping[str, object], *, color: bool = False) -> str:
    """Lay out names and values, one to a line; None shows as ``-``. Ends with a newline."""
    width = max(map(len, values)) + len(_GAP) + 1
    lines = []
    for name, value in values.items():
        text = plain(value)
        style = _COLORS.get(text) if color and name.upper() == _STATE else None
        lines.append(f"{name + ':':<{width}}{_styled(text, style)}\n")
    return "".join(lines)


def toned(text: str, tone: Tone | None) -> str:
    """Return a text in the color of a tone; as it is for None."""
    return text if tone is None else _styled(text, _TONES[tone])


def plain(cell: object) -> str:
    """Return a value as one escaped line; ``-`` for None and an empty text."""
    return escape("-" if cell is None or cell == "" else str(cell))


def _styled(text: str, style: str | None) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style is not None else text
