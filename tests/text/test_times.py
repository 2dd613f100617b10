"""Times as people write and read them."""

from __future__ import annotations

import pytest

from stackit.text.times import parse_rfc3339, parse_time, relative, rfc3339

NOW = 1_795_459_409.0
"""2026-11-23T18:43:29Z."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T18:43:29Z", NOW),
        ("2026-11-23t18:43:29.25z", NOW + 0.25),
        ("2026-11-23 18:43:29Z", NOW),
        ("2026-11-23T19:43:29+01:00", NOW),
        ("2026-11-23T18:43:29-00:30", NOW + 1800),
        ("1969-12-31T23:59:59Z", -1.0),
        ("0", NOW),
        ("90s", NOW - 90),
        ("2h", NOW - 7200),
        ("1.5h", NOW - 5400),
        ("7d", NOW - 7 * 86400),
    ],
)
def test_a_time_is_rfc_3339_or_a_duration_ago(text: str, expected: float) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "-2h", "2", "2 weeks", "2026-11-23", "2026-11-23T18:43:29", "2026-13-23T18:43:29Z",
        "2026-11-23T25:43:29Z", "2026-11-23T18:43Z", "20261123T184329Z", "2026-W48-1T00:00:00Z", "٢h", " ", "9" * 400,
    ],
)  # fmt: skip
def test_what_is_no_time_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time such as"):
        parse_time(text, NOW)


def test_a_time_that_was_written_is_read_again() -> None:
    for epoch in (0.0, NOW + 0.123, -1.5):
        assert parse_rfc3339(rfc3339(epoch)) == epoch


@pytest.mark.parametrize(
    ("distance", "shown"),
    [
        (0, "just now"),
        (0.9, "just now"),
        (-0.9, "just now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (200, "3 minutes ago"),
        (7199, "1 hour ago"),
        (86400 * 3, "3 days ago"),
        (-5, "in 5 seconds"),
        (-7200, "in 2 hours"),
    ],
)
def test_a_time_is_shown_as_its_distance_in_the_largest_unit(distance: float, shown: str) -> None:
    assert relative(NOW - distance, NOW) == shown
