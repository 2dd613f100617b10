"""How times leave stackit: RFC 3339 in UTC, with milliseconds."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(epoch: float) -> str:
    """Format seconds since the epoch, for example ``2026-11-23T18:43:29.123Z``."""
    # Adding to the epoch, unlike fromtimestamp, treats times before 1970 the same on every platform.
    moment = _EPOCH + timedelta(milliseconds=round(epoch * 1000))
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
