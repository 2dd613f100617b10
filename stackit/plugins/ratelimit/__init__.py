"""A rate limit on refused requests, by address.

A token bucket for each client address. Only a refused request spends a token, and the
refusal waits for the signature (``unless_verified``): a delivery that verifies is always
taken, also while a flood comes from the same address.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable

import msgspec

from stackit import Buckets, Occurrence, Refused, RequestHead, client_network, hookimpl, parse_address

# What a client cannot know to be wrong (404), what this plugin said itself (429), and what
# is stackit's own trouble (5xx) costs nothing.
_FREE_STATUSES = {404, 429}
_MOST_HOPS = 32
_UNIX = "unix"
"""The address of every client of a unix socket."""


class RateLimit:
    """The limiter. ``clock`` returns seconds that never run backwards."""

    class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        """``[plugins.ratelimit]``.

        An address may have ``burst`` refused requests at once, and gets ``per_minute`` back.
        ``trusted_proxies`` are networks whose ``X-Forwarded-For`` is believed, and ``"unix"`` for what comes by a unix
        socket. At most
        ``max_addresses`` buckets are kept; while that many are in use, all further addresses share one.
        """

        burst: int = 30
        per_minute: int = 30
        trusted_proxies: tuple[str, ...] = ()
        max_addresses: int = 65536

        def __post_init__(self) -> None:
            for name in ("burst", "per_minute", "max_addresses"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name}: must be at least 1")
            for number, text in enumerate(self.trusted_proxies, 1):
                if text != _UNIX:
                    _network(number, text)

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets = Buckets(burst=1, seconds_per_token=60, most=1)
        self.stackit_reload(settings)

    @hookimpl
    def stackit_reload(self, settings: Settings) -> None:
        self._trusts_unix = _UNIX in settings.trusted_proxies
        self._proxies = tuple(
            _network(number, text) for number, text in enumerate(settings.trusted_proxies, 1) if text != _UNIX
        )
        self._buckets.change(
            burst=settings.burst, seconds_per_token=60 / settings.per_minute, most=settings.max_addresses
        )

    @hookimpl
    def stackit_admit(self, request: RequestHead) -> Refused | None:
        wait = self._buckets.wait(self._client(request), self._clock())
        if wait <= 0:
            return None
        return Refused(status=429, reason="rate", retry_after=math.ceil(wait), unless_verified=True)

    @hookimpl
    def stackit_client(self, request: RequestHead) -> str | None:
        if not (self._proxies or self._trusts_unix):
            return None
        nearest = self._nearest(request)
        address = parse_address(nearest)
        return nearest if address is None else str(address)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        if occurrence.name != "refused" or occurrence.request is None:
            return
        # A refusal by this plugin spends nothing, so a bucket fills again also while the flood goes on.
        if 400 <= (occurrence.status or 0) < 500 and occurrence.status not in _FREE_STATUSES:
            self._buckets.spend(self._client(occurrence.request), self._clock())

    def _client(self, request: RequestHead) -> str:
        """Return the key of the bucket: that of the nearest address that is not a trusted proxy's."""
        return client_network(self._nearest(request) if self._proxies or self._trusts_unix else request.client)

    def _nearest(self, request: RequestHead) -> str:
        nearest = request.client
        hops = b",".join(request.headers.get(b"x-forwarded-for", ())).decode("latin-1").rsplit(",", _MOST_HOPS)
        # Each proxy appends whom it saw, so what the client made up is further to the left.
        for hop in hops[: -_MOST_HOPS - 1 : -1]:
            if not self._trusts(nearest) or parse_address(hop) is None:
                break
            nearest = hop
        return nearest

    def _trusts(self, text: str) -> bool:
        if text == _UNIX:
            return self._trusts_unix
        address = parse_address(text)
        return address is not None and any(address in network for network in self._proxies)


def _network(number: int, text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Parse an item of ``trusted_proxies``. Raises ValueError, which names it."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        pass
    try:
        whole = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError(
            f"trusted_proxies: item {number}: expected a network such as '10.0.0.0/8', or 'unix'"
        ) from None
    raise ValueError(f"trusted_proxies: item {number}: has bits beyond its mask; the network is '{whole}'")
