"""The conversion of wall-clock times to the monotonic clock of the reactor."""

from __future__ import annotations

import math
from collections.abc import Callable

from stackit import Timers

STEP = 0.1
"""Seconds of difference from which on the wall clock was set, and does not only drift."""


class ClockConverter:
    """Converts times of the wall clock into those of the reactor, unless the wall clock was set since."""

    def __init__(self, reactor: Timers, now: Callable[[], float]) -> None:
        self._reactor = reactor
        self._now = now
        self._ahead = now() - reactor.seconds()
        self._set_at = -math.inf

    def to_monotonic(self, at: float) -> float:
        """Return the reactor's time for ``at``, a past time in epoch seconds; the present if it cannot be known."""
        seconds: float = self._reactor.seconds()
        ahead = self._now() - seconds
        if abs(ahead - self._ahead) > STEP:
            self._set_at = seconds
        self._ahead = ahead
        moment = at - ahead
        return moment if self._set_at < moment < seconds else seconds
