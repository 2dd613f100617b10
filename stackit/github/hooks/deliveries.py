"""Waiting for a delivery: a ping that was asked for, or the first one signed with a new secret."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.internet.defer import Deferred

from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Timers, overdue

Matches = Callable[[Occurrence], bool]


class ExpectedDelivery:
    """A delivery that is waited for. ``came`` tells whether it has come."""

    def __init__(self, reactor: Timers, matches: Matches) -> None:
        self.came = False
        self._reactor = reactor
        self._matches = matches
        self._waiting: Deferred[None] | None = None

    def look(self, occurrence: Occurrence) -> None:
        """Take note of a delivery that verified."""
        if not self.came and self._matches(occurrence):
            self.came = True
            self._wake()

    async def wait(self, seconds: float) -> bool:
        """Wait for so many seconds at most, and return whether it has come."""
        if not self.came:
            self._waiting = waiting = Deferred[None]()
            with overdue(self._reactor, seconds, self._wake):
                await waiting
        return self.came

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)


class DeliveryWatch:
    """Tells those who wait of deliveries that verified."""

    def __init__(self, reactor: Timers) -> None:
        self._reactor = reactor
        self._expected: list[ExpectedDelivery] = []

    def observe(self, occurrence: Occurrence) -> None:
        """Take note of a delivery."""
        if occurrence.name in ("accepted", "duplicate") and occurrence.verified_by is not None:
            for each in tuple(self._expected):
                each.look(occurrence)

    @contextmanager
    def expect(self, matches: Matches) -> Iterator[ExpectedDelivery]:
        """Wait for a delivery that matches, for as long as the block runs."""
        expected = ExpectedDelivery(self._reactor, matches)
        self._expected.append(expected)
        try:
            yield expected
        finally:
            self._expected.remove(expected)
