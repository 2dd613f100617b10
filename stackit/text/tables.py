"""Tables for people at a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from stackit.text.escape import escape

_GAP = "  "


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows in columns, each as wide as its widest cell; None shows as ``-``. Ends with a newline."""
    cells = [list(header), *([plain(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = (_GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells)
    return "".join(f"{line}\n" for line in lines)


def plain(cell: object) -> str:
    """Return a value as one escaped line; ``-`` for None and an empty text."""
    return escape("-" if cell is None or cell == "" else str(cell))
