"""Durations and sizes, as people write them."""

from __future__ import annotations

import msgspec
import pytest

from stackit import Duration, Size
from stackit.text.units import decode_unit, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), (0, 0), ("0s", 0), ("90s", 90), ("5m", 300), ("1h", 3600), ("7d", 604800), (" 1.5 H ", 5400)],
)
def test_a_duration_is_seconds(text: object, expected: float) -> None:
    assert Duration.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("10b", 10),
        ("512 KiB", 524288),
        ("25 MiB", 26214400),
        ("1gib", 2**30),
        ("1.5 kb", 1500),
        ("2MB", 2000000),
    ],
)
def test_a_size_is_bytes(text: object, size: int) -> None:
    parsed = Size.parse(text)
    assert parsed == size
    assert isinstance(parsed, int)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        5,
        90.5,
        "-5s",
        "5 minutes",
        "1e3s",
        "inf",
        "nan",
        "\u0665m",
        "5m\n5m",
        "0x5s",
        True,
        None,
        [],
        "9" * 400 + "s",
    ],
)
def test_what_is_no_duration_says_what_would_be(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 0, '90s'"):
        Duration.parse(text)


@pytest.mark.parametrize(("given", "expected"), [(0, 0), (90, 90), (0.5, 0.5), ("0", 0), ("90s", 90), ("5m", 300)])
def test_an_author_writes_seconds_as_a_number_or_with_a_unit(given: float | str, expected: float) -> None:
    assert seconds(given) == expected


@pytest.mark.parametrize("given", ["", "5", "soon", -1, float("nan"), float("inf"), True, None, [5]])
def test_what_is_no_time_says_what_would_be(given: float) -> None:
    with pytest.raises(ValueError, match=r"^expected .*'90s', '5m' or '1h'"):
        seconds(given)


@pytest.mark.parametrize("text", ["", "25", 25, "-1 MiB", "25 MiBs", False, "1 m"])
def test_what_is_no_size_says_what_would_be(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as '512 KiB'"):
        Size.parse(text)


def test_a_setting_that_is_wrong_is_named_with_what_would_be_right() -> None:
    class Settings(msgspec.Struct):
        wait: Duration
        most: Size = Size(5)

    decoded = msgspec.convert({"wait": "5m"}, Settings, dec_hook=decode_unit)
    assert (decoded.wait, decoded.most) == (300.0, 5)
    with pytest.raises(msgspec.ValidationError, match=r"expected a duration .* at `\$\.wait`"):
        msgspec.convert({"wait": "soon"}, Settings, dec_hook=decode_unit)
