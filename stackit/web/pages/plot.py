"""A plot of the last hour, drawn on the server as SVG: no script, and no style but the stylesheet's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from stackit.html.filters import duration

_WIDTH, _HEIGHT = 720, 150
_LEFT, _TOP, _BOTTOM = 4, 6, 4
_DEEP = _HEIGHT - _TOP - _BOTTOM


def plot(history: Mapping[str, Any]) -> Markup:
    """Return the plot of an answer of ``GET {prefix}/history``.

    Bars are deliveries a minute; the lines are the median and the p95 of the time from a push to its mirror, which have
    a scale of their own. A title and a description say the same in words. It stretches to the width that it gets, so
    its labels are beside it.
    """
    minutes: Sequence[Mapping[str, Any]] = history["minutes"]
    most, slowest = peaks(history)
    step = (_WIDTH - 2 * _LEFT) / max(1, len(minutes))
    parts = [
        Markup(
            '<svg class="plot" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
            ' aria-labelledby="plot-title plot-text">'
        ).format(_WIDTH, _HEIGHT),
        Markup('<title id="plot-title">The last hour</title><desc id="plot-text">{}</desc>').format(summary(history)),
        Markup('<path class="plot-axis" d="M{} {}H{}"/>').format(_LEFT, _HEIGHT - _BOTTOM, _WIDTH - _LEFT),
    ]
    for number, each in enumerate(minutes):
        if each["deliveries"]:
            height = max(1.0, _DEEP * each["deliveries"] / most)
            parts.append(
                Markup('<rect class="plot-bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                    _number(_LEFT + number * step + 1),
                    _number(_HEIGHT - _BOTTOM - height),
                    _number(step - 2),
                    _number(height),
                    f"{each['at'][11:16]} UTC: {_counted(each['deliveries'])}",
                )
            )
    for name in ("p95", "median"):
        parts += _line(name, [each[name] for each in minutes], slowest, step)
    return Markup("").join([*parts, Markup("</svg>")])


def peaks(history: Mapping[str, Any]) -> tuple[int, float]:
    """Return the most deliveries in a minute, and the longest p95 of a minute, in seconds."""
    minutes: Sequence[Mapping[str, Any]] = history["minutes"]
    most = max((each["deliveries"] for each in minutes), default=0)
    return most, max((each["p95"] or 0.0 for each in minutes), default=0.0)


def summary(history: Mapping[str, Any]) -> str:
    """Return the last hour as a sentence."""
    count = history["deliveries"]
    said = f"{_counted(count)} in the last hour."
    if history["median"] is None:
        return f"{said} No push became visible in a mirror."
    pushes = history["visible"]
    counted = f"{pushes} push{'' if pushes == 1 else 'es'} became visible"
    return f"{said} {counted}: half within {duration(history['median'])}, 95 % within {duration(history['p95'])}."


def _line(name: str, values: Sequence[float | None], most: float, step: float) -> list[Markup]:
    """Return a line through the values; where minutes have none it goes straight on, and one alone is a dot."""
    points = [
        (_LEFT + (number + 0.5) * step, _HEIGHT - _BOTTOM - _DEEP * value / most)
        for number, value in enumerate(values)
        if value is not None and most
    ]
    if not points:
        return []
    path = "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
    shapes = [Markup('<path class="plot-{}" d="M{}"/>').format(name, path)] if len(points) > 1 else []
    dots = [
        Markup('<path class="plot-dot plot-{}" d="M{} {}h0"/>').format(name, _number(x), _number(y)) for x, y in points
    ]
    return [*shapes, *dots]


def _counted(deliveries: int) -> str:
    return f"{deliveries:,} deliver{'y' if deliveries == 1 else 'ies'}"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
