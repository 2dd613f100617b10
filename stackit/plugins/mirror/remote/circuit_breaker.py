"""A circuit breaker: after a failure a remote gets no requests for a while."""

from __future__ import annotations

from stackit import Timers
from stackit.http.client import RemoteError

AFTER_FAILURE = (5.0, 600.0)
"""Seconds for which a breaker is open after the first failure, and the most that they grow to."""
OLD_PROTOCOL = (600.0, 86400.0)
"""The same for a remote that does not speak protocol v2, which only changes with its software."""


class CircuitBreaker:
    """Opens after a failure, each time for twice as long as the time before; a success closes it.

    While it is open, requests fail at once with the reason of the failure. ``pauses``: seconds for which it is open
    after the first failure, and the most that they grow to.
    """

    def __init__(self, reactor: Timers, pauses: tuple[float, float] = AFTER_FAILURE) -> None:
        self._reactor = reactor
        self._first, self._most = pauses
        self._pause = self._first
        self._until = 0.0
        self._reason: str | None = None

    @property
    def is_open(self) -> bool:
        return self._reason is not None and self._reactor.seconds() < self._until

    def check(self) -> None:
        """Raise RemoteError if the breaker is open."""
        if self.is_open:
            raise RemoteError(self._reason or "protocol")

    def failed(self, reason: str) -> None:
        """Open the breaker. Requests that were under way when it opened do not count again."""
        if not self.is_open:
            self._reason = reason
            self._until = self._reactor.seconds() + self._pause
            self._pause = min(2 * self._pause, self._most)

    def succeeded(self) -> None:
        """Close the breaker."""
        self._reason, self._pause = None, self._first
