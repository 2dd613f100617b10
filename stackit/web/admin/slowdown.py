"""The slowdown of strangers: a bound on what one address is refused in a while."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from stackit.api.admin import Response, error
from stackit.api.buckets import Buckets
from stackit.text.addresses import client_network

_MOST = 65536


class Slowdown:
    """Token buckets by address (of IPv6: by /64). ``clock`` returns seconds that never run backwards."""

    def __init__(self, clock: Callable[[], float], *, burst: int, per_minute: int) -> None:
        self._clock = clock
        self._buckets = Buckets(burst=burst, seconds_per_token=60 / per_minute, most=_MOST)

    def spend(self, client: str) -> None:
        """Count a refusal."""
        self._buckets.spend(client_network(client), self._clock())

    def refusal(self, client: str) -> Response | None:
        """Return the answer to an address that has to wait; None for one that need not."""
        wait = self._buckets.wait(client_network(client), self._clock())
        if wait <= 0:
            return None
        refused = error(429, "too many refused requests from this address: come again later")
        return msgspec.structs.replace(refused, headers={"Retry-After": str(math.ceil(wait))})
