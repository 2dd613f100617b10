"""The ``Retry-After`` header."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

_LONGEST = 86400.0


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the seconds that ``Retry-After`` asks to wait, a day at most; None for a value that is malformed.

    The value is a number of seconds or a date (RFC 9110, section 10.2.3).
    ``now`` is the wall clock, in seconds since the epoch.
    """
    if re.fullmatch(r"\d{1,9}", value):
        return min(float(value), _LONGEST)
    try:
        return min(max(0.0, parsedate_to_datetime(value).timestamp() - now), _LONGEST)
    except ValueError:
        return None
