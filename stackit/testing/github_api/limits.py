"""Primary and secondary limits of requests, for each App, installation and person by itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from stackit.testing.github_api.answers import ApiRefused
from stackit.testing.github_api.apps import Installation, PretendApp
from stackit.testing.github_api.clock import SettableClock
from stackit.testing.objects import Json

HOUR = 3600.0
MINUTE = 60.0
WRITE_PAUSE = 1.0
"""Seconds that GitHub wants between two writes of one caller."""

_GUIDE = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
_SECONDARY = (
    "You have exceeded a secondary rate limit. Please wait a few minutes before you try again. If you reach out to"
    " GitHub Support for help, please include the request ID."
)

Who = str | PretendApp | Installation
"""Whose limits: an App for its JWTs, an installation for its tokens, or a text as ``user:LOGIN``, ``anonymous``."""


class Hold:
    """A secondary limit, until a time. ``retry_after`` is the header, None for none."""

    def __init__(self, until: float, status: int, retry_after: str | None) -> None:
        self.until = until
        self.status = status
        self.retry_after = retry_after
        self.told = False


class Bucket:
    """The requests of one caller. ``told``: the caller knows that none is left."""

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self.used = 0
        self.reset = math.ceil(now + HOUR)
        self.status = 403
        self.told = False
        self.hold: Hold | None = None
        self.points = 0
        self.points_until = now + MINUTE
        self.open = 0
        self.wrote_at = 0.0

    @property
    def remaining(self) -> int:
        return max(0, self.limit - self.used)

    def json(self) -> Json:
        """Return it as ``/rate_limit`` shows it."""
        return {"limit": self.limit, "used": self.used, "remaining": self.remaining, "reset": self.reset}


class Limits:
    """The limits of every caller.

    ``enabled`` is false on GitHub Enterprise Server, where no limit is but what ``hold`` begins. ``per_hour`` and
    ``per_hour_anonymous`` are of callers that ask for the first time. ``points_per_minute`` (5 for a write, 1 for
    any other request) and ``concurrent`` are secondary limits. ``ban_points`` counts, for each caller, the requests
    that came after it was told of a limit and before the limit ended: each of them makes a ban likelier.
    ``most_concurrent`` is how many requests of a caller were open at once, at most; ``hasty_writes`` counts those
    that came within a second of the one before.
    """

    def __init__(self, clock: SettableClock) -> None:
        self.enabled = True
        self.per_hour = 5000
        self.per_hour_anonymous = 60
        self.points_per_minute = 900
        self.concurrent = 100
        self.ban_points: Counter[str] = Counter()
        self.most_concurrent: Counter[str] = Counter()
        self.hasty_writes: Counter[str] = Counter()
        self._clock = clock
        self._buckets: dict[str, Bucket] = {}

    def exhaust(self, who: Who, *, seconds: float = HOUR, status: int = 403) -> None:
        """Let the primary limit of a caller be used up, for so many seconds. ``status`` is 403 or 429."""
        bucket = self._bucket(key_of(who))
        bucket.used, bucket.reset, bucket.status = bucket.limit, math.ceil(self._clock.now() + seconds), status
        bucket.told = False

    def hold(self, who: Who, *, seconds: float = MINUTE, retry_after: str | None = None, status: int = 403) -> None:
        """Begin a secondary limit of a caller, for so many seconds. ``retry_after`` is the header as it is sent."""
        self._bucket(key_of(who)).hold = Hold(self._clock.now() + seconds, status, retry_after)

    def lift(self, who: Who) -> None:
        """End every limit of a caller, as if its time had come."""
        self._buckets.pop(key_of(who), None)

    def of(self, who: Who) -> Bucket:
        """Return what a caller has used and has left."""
        return self._bucket(key_of(who))

    @contextmanager
    def open(self, key: str) -> Iterator[None]:
        """Count a request as open."""
        bucket = self._bucket(key)
        bucket.open += 1
        self.most_concurrent[key] = max(self.most_concurrent[key], bucket.open)
        try:
            yield
        finally:
            bucket.open -= 1

    def spend(self, key: str, method: str, *, free: bool = False) -> None:
        """Let a request in, at the price of one; or free, but for the secondary limits. Raises ApiRefused."""
        bucket, now = self._bucket(key), self._clock.now()
        self._check_hold(key, bucket)
        if not self.enabled:
            return
        if bucket.remaining == 0 and not free:
            self.ban_points[key] += bucket.told
            bucket.told = True
            raise _refused(bucket.status, f"API rate limit exceeded for {_name(key)}.", {})
        if method in ("GET", "HEAD", "OPTIONS"):
            bucket.points += 1
        else:
            bucket.points += 5
            self.hasty_writes[key] += now - bucket.wrote_at < WRITE_PAUSE
            bucket.wrote_at = now
        if bucket.points > self.points_per_minute or bucket.open > self.concurrent:
            bucket.hold = Hold(self._clock.now() + MINUTE, 403, str(int(MINUTE)))
            self._check_hold(key, bucket)
        if not free:
            bucket.used += 1

    def refund(self, key: str) -> None:
        """Take back the price of a request that turned out to be free."""
        if self.enabled:
            self._bucket(key).used -= 1

    def headers(self, key: str) -> dict[str, str]:
        """Return the headers of an answer, which tell how much is left."""
        if not self.enabled:
            return {}
        bucket = self._bucket(key)
        bucket.told |= bucket.remaining == 0
        return {"X-RateLimit-Resource": "core"} | {
            f"X-RateLimit-{name.capitalize()}": str(value) for name, value in bucket.json().items()
        }

    def _check_hold(self, key: str, bucket: Bucket) -> None:
        hold = bucket.hold
        if hold is None:
            return
        self.ban_points[key] += hold.told
        hold.told = True
        raise _refused(hold.status, _SECONDARY, {} if hold.retry_after is None else {"Retry-After": hold.retry_after})

    def _bucket(self, key: str) -> Bucket:
        now = self._clock.now()
        bucket = self._buckets.get(key)
        if bucket is None:
            limit = self.per_hour_anonymous if key == "anonymous" else self.per_hour
            bucket = self._buckets[key] = Bucket(limit, now)
        if now >= bucket.reset:
            bucket.used, bucket.reset, bucket.told = 0, math.ceil(now + HOUR), False
        if now >= bucket.points_until:
            bucket.points, bucket.points_until = 0, now + MINUTE
        if bucket.hold is not None and now >= bucket.hold.until:
            bucket.hold = None
        return bucket


def key_of(who: Who) -> str:
    """Return the caller of the requests of an App or an installation."""
    if isinstance(who, str):
        return who
    return f"{'app' if isinstance(who, PretendApp) else 'installation'}:{who.id}"


def _name(key: str) -> str:
    kind, _, found = key.partition(":")
    return f"{kind} ID {found}" if found else "127.0.0.1"


def _refused(status: int, message: str, headers: dict[str, str]) -> ApiRefused:
    return ApiRefused(status, message, headers=headers, extra={"documentation_url": _GUIDE})
