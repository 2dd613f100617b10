"""Whether a remote is worth asking directly: not for a while after it did not answer, for growing times."""

from __future__ import annotations

from stackit import Reactor
from stackit.http.client import RemoteError

TROUBLE = (5.0, 600.0)
"""Seconds for which a gate closes after the first failure, and the most that this grows to."""
OLD_PROTOCOL = (600.0, 86400.0)
"""The same for a remote that does not speak protocol v2, which changes with its software only."""


class CircuitBreaker:
    """Closes after each failure, twice as long as after the one before; a success opens it."""

    def __init__(self, reactor: Reactor, pauses: tuple[float, float] = TROUBLE) -> None:
        self._reactor = reactor
        self._first, self._most = pauses
        self._pause = self._first
        self._until = 0.0
        self._reason: str | None = None

    @property
    def closed(self) -> bool:
        return self._reason is not None and self._reactor.seconds() < self._until

    def check(self) -> None:
        """Raises RemoteError, with the reason of the failure, while it is closed."""
        if self.closed:
            raise RemoteError(self._reason or "protocol")

    def failed(self, reason: str) -> None:
        """Close. What was under way when it closed does not count again."""
        if not self.closed:
            self._reason = reason
            self._until = self._reactor.seconds() + self._pause
            self._pause = min(2 * self._pause, self._most)

    def succeeded(self) -> None:
        """Open."""
        self._reason, self._pause = None, self._first
