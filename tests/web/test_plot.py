"""The plot of the last hour: SVG without style or script, and the same in words."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree as ET

from stackit.web.pages.plot import plot, summary


def history(**at: tuple[int, float | None, float | None]) -> dict[str, Any]:
    """An answer of the API in which the minutes at these places have something."""
    minutes: list[dict[str, Any]] = [
        {"at": f"2026-11-23T19:{number:02}:00.000Z", "deliveries": 0, "visible": 0, "median": None, "p95": None}
        for number in range(60)
    ]
    for place, (deliveries, median, p95) in at.items():
        minutes[int(place[1:])] |= {"deliveries": deliveries, "visible": 1, "median": median, "p95": p95}
    total = sum(deliveries for deliveries, _, _ in at.values())
    slowest = max((p95 for _, _, p95 in at.values() if p95 is not None), default=None)
    return {"minutes": minutes, "deliveries": total, "visible": len(at), "median": slowest, "p95": slowest}


def test_every_minute_with_a_delivery_has_a_bar_and_the_largest_fills_the_plot() -> None:
    drawn = ET.fromstring(plot(history(m3=(10, 0.2, 0.4), m7=(5, None, None), m59=(1, 0.1, 0.8))))  # noqa: S314
    bars = [each for each in drawn if each.get("class") == "plot-bar"]
    heights = [float(each.get("height", "")) for each in bars]
    assert heights == [140, 70, 14]
    assert bars[0][0].text == "19:03 UTC: 10 deliveries"
    right = max(float(each.get("x", "")) + float(each.get("width", "")) for each in bars)
    assert 700 < right <= 720
    (path,) = [each.get("d") for each in drawn if each.get("class") == "plot-p95" and each.tag == "path"]
    assert path == "M45.5 76L710.1 6"


def test_it_has_a_title_and_a_description_and_no_style() -> None:
    drawn = plot(history(m3=(10, 0.2, 0.4)))
    assert "<title id=" in drawn
    assert "10 deliveries in the last hour. 1 push became visible: half within 400 ms, 95 % within 400 ms." in drawn
    assert not re.search(r"style|<script|\son\w+=|https?:", drawn)


def test_an_hour_in_which_nothing_came_is_drawn_too() -> None:
    drawn = plot(history())
    ET.fromstring(drawn)  # noqa: S314 - made here
    assert "plot-bar" not in drawn
    assert summary(history()) == "0 deliveries in the last hour. No push became visible in a mirror."
