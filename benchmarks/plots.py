"""Bar charts as SVG: one bar for each row, its length the median, a line from the lowest to the highest."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape

from harness import number

_WIDTH, _LEFT, _ROW, _TOP = 760, 250, 30, 54
_OURS, _THEIRS, _INK = "#2f6fde", "#b8c0cc", "#24292f"


def bars(title: str, rows: Mapping[str, Sequence[float]], *, ours: str, logarithmic: bool = False) -> str:
    """``rows``: the figures of each. ``logarithmic`` where they differ by orders of magnitude."""
    rows = {name: values for name, values in rows.items() if values}
    highest = max((max(values) for values in rows.values()), default=1.0)
    lowest = min((min(values) for values in rows.values()), default=1.0)
    room = _WIDTH - _LEFT - 90

    def length(value: float) -> float:
        if not logarithmic:
            return room * value / highest
        from math import log10

        floor = log10(lowest) - 0.5
        return room * (log10(value) - floor) / (log10(highest) - floor)

    height = _TOP + _ROW * len(rows) + 14
    note = " (logarithmic)" if logarithmic else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="sans-serif" font-size="14">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="16" y="30" font-size="17" fill="{_INK}">{escape(title + note)}</text>',
    ]
    for place, (name, values) in enumerate(rows.items()):
        y = _TOP + _ROW * place
        middle = statistics.median(values)
        colour = _OURS if name.startswith(ours) else _THEIRS
        parts += [
            f'<text x="{_LEFT - 10}" y="{y + 17}" text-anchor="end" fill="{_INK}">{escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{y + 4}" width="{length(middle):.1f}" height="18" fill="{colour}"/>',
            f'<line x1="{_LEFT + length(min(values)):.1f}" x2="{_LEFT + length(max(values)):.1f}" '
            f'y1="{y + 13}" y2="{y + 13}" stroke="{_INK}"/>',
            f'<text x="{_LEFT + length(max(values)) + 8:.1f}" y="{y + 18}" fill="{_INK}">{number(middle)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
