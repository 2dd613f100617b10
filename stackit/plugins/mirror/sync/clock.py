"""When something was received, by a clock that nobody sets."""

from __future__ import annotations

import math
from collections.abc import Callable

from stackit import Reactor

STEP = 0.1
"""Seconds by which the wall clock was set, and does not only run a little faster or slower."""


class ClockConverter:
    """Turns times of the wall clock into the reactor's, as far as nobody set the wall clock since."""

    def __init__(self, reactor: Reactor, now: Callable[[], float]) -> None:
        self._reactor = reactor
        self._now = now
        self._ahead = now() - reactor.seconds()
        self._set_at = -math.inf

    def to_monotonic(self, at: float) -> float:
        """The reactor's time of ``at``, in epoch seconds, which has passed; the present where that cannot be known."""
        seconds: float = self._reactor.seconds()
        ahead = self._now() - seconds
        if abs(ahead - self._ahead) > STEP:
            self._set_at = seconds
        self._ahead = ahead
        moment = at - ahead
        return moment if self._set_at < moment < seconds else seconds
