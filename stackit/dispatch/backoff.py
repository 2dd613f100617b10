"""The delay before a failed handling is tried again: growing, jittered, up to a limit."""

from __future__ import annotations

from random import Random

FIRST_DELAY = 1.0
"""Seconds before the first retry, without the jitter."""
LONGEST_DELAY = 3600.0
"""Seconds between two tries, at most."""


class Backoff:
    """Delays that double from one second to an hour, until their sum would exceed ``retry_for`` seconds.

    The limit counts the undisturbed delays, not the clock: a night in which stackit did
    not run takes no try away. Each delay is drawn from half to all of its nominal value,
    so that what failed together does not come back together.
    """

    def __init__(self, retry_for: float, random: Random) -> None:
        self._retry_for = retry_for
        self._random = random

    def delay(self, attempts: int) -> float | None:
        """Return the seconds to wait after so many failed attempts (from 1); None to give up."""
        spent = sum(self._nominal(attempt) for attempt in range(1, attempts + 1))
        if spent > self._retry_for:
            return None
        return self._nominal(attempts) * self._random.uniform(0.5, 1.0)

    @staticmethod
    def _nominal(attempt: int) -> float:
        return min(FIRST_DELAY * 2.0 ** min(attempt - 1, 20), LONGEST_DELAY)
