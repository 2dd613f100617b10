"""Times as text: RFC 3339 in UTC, with milliseconds."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
