"""The lease of this node, as it counts it by a clock of its own, which goes on while the machine is suspended."""

from __future__ import annotations

import math
from collections.abc import Callable

from twisted.internet.base import DelayedCall

from stackit.api.reactor import Timers

_MARGIN = 0.1
"""The part of the lease at whose end a node has stopped by itself, before anybody may take its work."""
_LEAST_MARGIN = 0.5
"""Seconds that this is at least: a process waits for a core, or for its memory to be collected."""
_LOOK = 0.2
"""Seconds between two looks whether it has ended, at most: timers stand still with the machine, and the lease does not.
"""


class Lease:
    """Ends a little before that in the database, which began later: it is counted from before that was asked for it.

    ``seconds`` is its length there, ``clock`` what it is counted by. ``over`` is called when it ends by itself.
    ``until`` is when it does so, by that clock; None while there is none.
    """

    def __init__(
        self, seconds: float, *, clock: Callable[[], float], reactor: Timers, over: Callable[[], object]
    ) -> None:
        self.seconds = seconds
        self.until: float | None = None
        self._works_for = seconds - max(seconds * _MARGIN, _LEAST_MARGIN)
        self._clock = clock
        self._reactor = reactor
        self._over = over
        self._timer: DelayedCall | None = None

    def renew(self, asked_at: float) -> None:
        """Begin it, or begin it again: the database has given it, and was asked for it at this time."""
        self.end()
        self.until = asked_at + self._works_for
        self._look_later()

    def is_over(self, asked_at: float) -> bool:
        """Return whether one that was asked for at this time has ended by now."""
        return asked_at + self._works_for <= self._clock()

    def end(self) -> None:
        """End it now, without a call of ``over``."""
        self.until = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def holds(self) -> bool:
        """Return whether it has not ended: a process that stood still learns of the time before its timers."""
        return self.until is not None and self._clock() < self.until

    def left(self) -> float:
        """Return the seconds until it ends; 0 where there is none."""
        return 0.0 if self.until is None else max(0.0, self.until - self._clock())

    def unanswered_for(self) -> float:
        """Return the seconds since the database was asked for it and gave it; infinity where there is none."""
        return math.inf if self.until is None else self._works_for - self.left()

    def look(self) -> None:
        """Call ``over`` now if it has ended, and the timer has not fired yet."""
        if self.until is not None and not self.holds():
            self._over()

    def _look_later(self) -> None:
        self._timer = self._reactor.callLater(min(self.left(), _LOOK), self._look_in_time)

    def _look_in_time(self) -> None:
        self._timer = None
        if self.holds():
            self._look_later()
        else:
            self._over()
