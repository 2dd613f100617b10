"""Charts as SVG: bars, each as long as its row's median, with a line from the lowest to the highest; and lines."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10

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
        least = log10(lowest) - 0.5
        return room * (log10(value) - least) / (log10(highest) - least)

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


_COLOURS = ("#2f6fde", "#d1495b", "#2e933c", "#e08e00", "#7b4fbf", "#00848c", "#8c6d46", "#57606a")


def lines(title: str, series: Mapping[str, Sequence[float]], *, across: str) -> str:
    """``series``: what was measured at 1, 2, 3 … of what ``across`` names, drawn from nothing up."""
    most = max((max(values) for values in series.values() if values), default=1.0) * 1.05 or 1.0
    rough = 10.0 ** floor(log10(most / 4))
    highest = 4 * next(rough * round_ for round_ in (1, 2, 2.5, 5, 10) if 4 * rough * round_ >= most)
    steps = max((len(values) for values in series.values()), default=1)
    left, top, width, tall = 60, 54, 470, 260

    def at(step: int, value: float) -> str:
        return f"{left + width * step / max(steps - 1, 1):.1f},{top + tall * (1 - value / highest):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + tall + 44}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{top + tall + 44}" fill="white"/>',
        f'<text x="16" y="30" font-size="17" fill="{_INK}">{escape(title)}</text>',
        f'<text x="{left + width}" y="{top + tall + 36}" text-anchor="end" fill="{_INK}">{escape(across)}</text>',
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = top + tall * (1 - share)
        parts += [
            f'<line x1="{left}" x2="{left + width}" y1="{y}" y2="{y}" stroke="#e1e4e8"/>',
            f'<text x="{left - 8}" y="{y + 5}" text-anchor="end" fill="{_INK}">{highest * share:.3g}</text>',
        ]
    for step in range(0, steps, max(steps // 8, 1)):
        x = at(step, 0).partition(",")[0]
        parts.append(f'<text x="{x}" y="{top + tall + 18}" text-anchor="middle" fill="{_INK}">{step + 1}</text>')
    for place, (name, values) in enumerate(series.items()):
        colour = _COLOURS[place % len(_COLOURS)]
        points = " ".join(at(step, value) for step, value in enumerate(values))
        y = top + 20 * place
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
            f'<rect x="{left + width + 16}" y="{y}" width="12" height="12" fill="{colour}"/>',
            f'<text x="{left + width + 34}" y="{y + 11}" fill="{_INK}">{escape(name)}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
