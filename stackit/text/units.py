"""Durations, sizes and numbers of things as people write them: ``90s``, ``25 MiB``, ``2 seconds``."""

from __future__ import annotations

import math
import re
from typing import Any

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_NUMBER_AND_UNIT = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([A-Za-z]*)", re.ASCII)


class Duration(float):
    """Seconds, written ``0``, ``90s``, ``5m``, ``1h`` or ``7d``."""

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Return the parsed value. Raises ValueError that says what is expected."""
        return cls(_parse(text, _SECONDS, "a duration such as 0, '90s', '5m' or '1h'"))


class Size(int):
    """Bytes, written ``0``, ``512 KiB``, ``25 MiB`` or ``1 GiB``."""

    @classmethod
    def parse(cls, text: object) -> Size:
        """Return the parsed value. Raises ValueError that says what is expected."""
        return cls(_parse(text, _BYTES, "a size such as '512 KiB', '25 MiB' or '1 GiB'"))


def seconds(value: float | str) -> float:
    """Return a number of seconds from a number, or from a text as ``Duration`` reads it. Raises ValueError."""
    if isinstance(value, str):
        return float(Duration.parse(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("expected seconds, or a duration such as '90s', '5m' or '1h'")
    return value


def counted(number: int, noun: str) -> str:
    """Return a number of things: ``1 second``, ``2 seconds``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _parse(text: object, units: dict[str, int], expected: str) -> float:
    match = None if isinstance(text, bool) else _NUMBER_AND_UNIT.fullmatch(str(text).strip())
    if match is not None:
        number, unit = match.groups()
        if float(number) == 0 and not unit:
            return 0
        if unit.lower() in units:
            return float(number) * units[unit.lower()]
    raise ValueError(f"expected {expected}")


def decode_unit(wanted: type, value: Any) -> Any:
    """Decode ``Duration`` and ``Size`` fields: a ``dec_hook`` of msgspec."""
    if isinstance(wanted, type) and issubclass(wanted, Duration | Size):
        return wanted.parse(value)
    raise NotImplementedError(f"no decoding for {wanted}")
