"""Turns away addresses that keep sending what does not verify.

A token bucket for each client address. Only a refused request spends a token, and the
refusal waits for the signature (``unless_verified``): a delivery that verifies is always
taken, also while a flood comes from the same address.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

import msgspec

from stackit import Occurrence, Refused, RequestHead, hookimpl

# What a client cannot know to be wrong (404), what this plugin said itself (429), and what
# is stackit's own trouble (5xx) costs nothing.
_FREE_STATUSES = {404, 429}
_MOST_HOPS = 32

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RateLimit:
    """The limiter. ``clock`` returns seconds that never run backwards."""

    class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """``[plugins.ratelimit]``.

        An address may have ``burst`` refused requests at once, and gets ``per_minute`` back.
        ``trusted_proxies`` are networks whose ``X-Forwarded-For`` is believed. At most
        ``max_addresses`` buckets are kept; while that many are in use, all further addresses share one.
        """

        burst: int = 30
        per_minute: int = 30
        trusted_proxies: tuple[str, ...] = ()
        max_addresses: int = 65536

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        for name in ("burst", "per_minute", "max_addresses"):
            if getattr(settings, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        self._proxies = tuple(_network(text) for text in settings.trusted_proxies)
        self._clock = clock
        self._buckets = Buckets(
            burst=settings.burst, seconds_per_token=60 / settings.per_minute, most=settings.max_addresses
        )

    @hookimpl
    def stackit_admit(self, request: RequestHead) -> Refused | None:
        wait = self._buckets.wait(self._client(request), self._clock())
        if wait <= 0:
            return None
        return Refused(status=429, reason="rate", retry_after=math.ceil(wait), unless_verified=True)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        if occurrence.name != "refused" or occurrence.request is None:
            return
        # A refusal by this plugin spends nothing, so a bucket fills again also while the flood goes on.
        if 400 <= (occurrence.status or 0) < 500 and occurrence.status not in _FREE_STATUSES:
            self._buckets.spend(self._client(occurrence.request), self._clock())

    def _client(self, request: RequestHead) -> str:
        """The key of the bucket: that of the nearest address that is not a trusted proxy's."""
        return _bucket(self._nearest(request) if self._proxies else request.client)

    def _nearest(self, request: RequestHead) -> str:
        nearest = request.client
        hops = b",".join(request.headers.get(b"x-forwarded-for", ())).decode("latin-1").rsplit(",", _MOST_HOPS)
        # Each proxy appends whom it saw, so what the client made up is further to the left.
        for hop in hops[: -_MOST_HOPS - 1 : -1]:
            if not self._trusts(nearest) or _address(hop) is None:
                break
            nearest = hop
        return nearest

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._proxies)


class Buckets:
    """Token buckets in bounded memory, each no more than the time at which it is full again.

    A bucket of ``burst`` tokens lacks one token for every ``seconds_per_token`` until
    that time. The order is that of the last spending, so buckets that are full, which
    need not be kept, are at the front. One that is not full is never forgotten, or whoever has
    many addresses could empty the table of the others' debts.
    """

    def __init__(self, *, burst: int, seconds_per_token: float, most: int) -> None:
        self._seconds_per_token = seconds_per_token
        self._seconds_to_fill = burst * seconds_per_token
        self._most = most
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._others_full_at = 0.0

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: str, now: float) -> float:
        """Seconds until the bucket has a token; 0 or less if it has one now."""
        full_at = self._full_at.get(key, self._others_full_at if self._crowded(now) else now)
        return full_at - now - self._seconds_to_fill + self._seconds_per_token

    def spend(self, key: str, now: float) -> None:
        """Take a token, if there is one."""
        if key not in self._full_at and self._crowded(now):
            self._others_full_at = self._after(self._others_full_at, now)
            return
        self._full_at[key] = self._after(self._full_at.get(key, now), now)
        self._full_at.move_to_end(key)

    def _after(self, full_at: float, now: float) -> float:
        return min(max(full_at, now) + self._seconds_per_token, now + self._seconds_to_fill)

    def _crowded(self, now: float) -> bool:
        while self._full_at:
            key, full_at = next(iter(self._full_at.items()))
            if full_at > now:
                break
            del self._full_at[key]
        return len(self._full_at) >= self._most


@lru_cache(maxsize=1024)
def _bucket(text: str) -> str:
    """Whose bucket it is: a customer has a whole /64 of IPv6, and so 2**64 addresses to choose from."""
    address = _address(text)
    if address is None:
        return text
    return str(address) if address.version == 4 else f"{int(address) >> 64:x}::/64"


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError as problem:
        raise ValueError(f"trusted_proxies: not a network such as '10.0.0.0/8': {problem}") from None


@lru_cache(maxsize=1024)
def _address(text: str) -> _Address | None:
    """An address as proxies write it: perhaps with a port, brackets or a zone."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
