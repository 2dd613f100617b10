"""The Retry-After header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stackit.http.client import parse_retry_after

NOW = 1_767_225_600.0  # 2026-01-01 00:00:00 UTC


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("999999999", 86400.0),
        ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2027 00:00:00 GMT", 86400.0),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
    ],
)
def test_it_is_a_number_of_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


DATES = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Thu", "x"]),
    st.integers(0, 40),
    st.sampled_from(["Jan", "Dec", "x"]),
    st.integers(0, 10**6),
    *(st.integers(0, 99) for _ in range(3)),
    st.sampled_from(["GMT", "-0000", "+9999", "x", ""]),
)


@given(st.text(max_size=40) | DATES, st.floats(0, 1e10))
def test_no_value_is_an_error_or_an_endless_wait(value: str, now: float) -> None:
    seconds = parse_retry_after(value, now)
    assert seconds is None or 0 <= seconds <= 86400
