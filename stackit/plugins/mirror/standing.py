"""How a mirror stands towards its remote: in step since when, or failing since what, and when to try again."""

from __future__ import annotations

import random
from typing import Literal

State = Literal["in_step", "behind", "cloning", "failing", "quarantined"]

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 3600.0


class Standing:
    """The outcome of the rounds of one repository so far. All times are seconds since the epoch."""

    def __init__(self) -> None:
        self.started_at = 0.0
        """When the latest round began to ask the remote."""
        self.verified_at: float | None = None
        """When the latest round that succeeded began: the mirror is at least as new as this."""
        self.error: str | None = None
        self.next_at: float | None = None
        """Before this, nobody tries again unless something new is known."""
        self.timeouts = 0
        self._failures = 0

    def started(self, now: float) -> None:
        self.started_at = now

    def succeeded(self) -> None:
        self.verified_at = self.started_at
        self.error = self.next_at = None
        self.timeouts = self._failures = 0

    def failed(self, now: float, error: str, *, timed_out: bool = False) -> None:
        self.error = error
        self.timeouts += timed_out
        pause = min(FIRST_PAUSE * 2**self._failures, LONGEST_PAUSE)
        self._failures += pause < LONGEST_PAUSE
        # Spread, because what ails one repository of a remote usually ails them all.
        self.next_at = now + pause * random.uniform(0.8, 1.2)  # noqa: S311 - nothing to guess

    def paused(self, now: float) -> bool:
        return self.next_at is not None and now < self.next_at

    def covers(self, moment: float) -> bool:
        """Whether a round that succeeded began after ``moment``."""
        return self.verified_at is not None and self.verified_at >= moment

    def tried_since(self, moment: float) -> bool:
        """Whether a round, however it ended, began after ``moment``."""
        return self.started_at >= moment
