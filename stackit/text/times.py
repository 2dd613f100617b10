"""Times as text: RFC 3339 in UTC, with milliseconds; and for people, as the distance from now."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from stackit.text.units import Duration

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def rfc3339(epoch: float) -> str:
    """Format seconds since the epoch, for example ``2026-11-23T18:43:29.123Z``."""
    return _moment(round(epoch * 1000))


@lru_cache(maxsize=64)
def _moment(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=64)
def _second(epoch: int) -> str:
    """Format whole seconds. Cached: many events share a second, and ``strftime`` is most of the work."""
    # Adding to the epoch, unlike fromtimestamp, treats times before 1970 the same on every platform.
    return (_EPOCH + timedelta(seconds=epoch)).strftime("%Y-%m-%dT%H:%M:%S")


def parse_time(text: str, now: float) -> float:
    """Return the seconds since the epoch of a time in RFC 3339, or of one that is a duration ago, such as ``2h``.

    Raises ValueError that says what is expected.
    """
    if _RFC_3339.fullmatch(text):
        try:
            return (datetime.fromisoformat(text.upper()) - _EPOCH).total_seconds()
        except (ValueError, OverflowError):
            pass
    else:
        try:
            return now - Duration.parse(text)
        except ValueError:
            pass
    raise ValueError("expected a time such as 2026-11-23T18:43:29Z, or one ago, such as '90s', '5m', '2h' or '7d'")


def parse_rfc3339(text: str) -> float:
    """Return the seconds since the epoch of a time that ``rfc3339`` formatted. Raises ValueError."""
    return (datetime.fromisoformat(text) - _EPOCH).total_seconds()


def relative(epoch: float, now: float) -> str:
    """Return how far a time is from now, in its largest unit: ``3 minutes ago``, ``in 2 hours``, ``just now``."""
    distance = abs(now - epoch)
    for unit, seconds in _UNITS:
        count = int(distance // seconds)
        if count:
            amount = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"{amount} ago" if epoch < now else f"in {amount}"
    return "just now"
