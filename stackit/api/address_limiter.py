"""A rate limit by address, for what may be refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from stackit.api.admin import Response, error
from stackit.api.buckets import Buckets
from stackit.text.addresses import client_network

_MOST = 65536


class AddressLimiter:
    """Token buckets by address (of IPv6: by /64). ``clock`` returns seconds that never run backwards."""

    def __init__(
        self, clock: Callable[[], float], *, burst: int, per_minute: int, counted: str = "refused requests"
    ) -> None:
        """``counted`` tells people what is bounded, in the plural."""
        self._clock = clock
        self._buckets = Buckets(burst=burst, seconds_per_token=60 / per_minute, most=_MOST)
        self._counted = counted

    def spend(self, client: str) -> None:
        """Count one of an address."""
        self._buckets.spend(client_network(client), self._clock())

    def refusal(self, client: str) -> Response | None:
        """Return the answer to an address that has to wait; None for one that need not."""
        wait = self._buckets.wait(client_network(client), self._clock())
        if wait <= 0:
            return None
        refused = error(429, f"too many {self._counted} from this address: come again later")
        return msgspec.structs.replace(refused, headers={"Retry-After": str(math.ceil(wait))})

    def admit(self, client: str) -> Response | None:
        """Count one of an address; return the answer to an address that has to wait, of which nothing is counted."""
        waiting = self.refusal(client)
        if waiting is None:
            self.spend(client)
        return waiting
