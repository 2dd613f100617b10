"""A deadline that is moved with every request, and seldom met."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.base import DelayedCall

from stackit.api.reactor import Timers

_MOMENT = 0.001
"""Seconds before a deadline at which it counts as met."""


class Deadline:
    """Calls ``on_expired`` at a time that may be moved again and again.

    A timer that would run too early is left to find that out: moving a deadline away costs no timer.
    """

    __slots__ = ("_at", "_on_expired", "_reactor", "_timer", "_timer_at")

    def __init__(self, reactor: Timers, on_expired: Callable[[], object]) -> None:
        self._reactor = reactor
        self._on_expired = on_expired
        self._at = 0.0
        self._timer: DelayedCall | None = None
        self._timer_at = 0.0

    def restart(self, seconds: float) -> None:
        """Expire after so many seconds from now."""
        self._at = self._reactor.seconds() + seconds
        if self._timer is not None:
            if self._timer_at <= self._at:
                return
            self._timer.cancel()
        self._start_timer(seconds)

    def left(self) -> float:
        """Return the seconds that are left."""
        return self._at - self._reactor.seconds()

    def cancel(self) -> None:
        """Never expire."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self, seconds: float) -> None:
        self._timer = self._reactor.callLater(seconds, self._run)
        self._timer_at = self._at

    def _run(self) -> None:
        self._timer = None
        left = self._at - self._reactor.seconds()
        if left > _MOMENT:
            self._start_timer(left)
        else:
            self._on_expired()
