"""The clock of the pretend GitHub, which tests set."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

DAY = 86_400.0


class SettableClock:
    """The wall clock ``now``, in epoch seconds, plus what it was moved by."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.offset = 0.0
        self._now = now

    def now(self) -> float:
        """Return epoch seconds, as the pretend GitHub has them."""
        return self._now() + self.offset

    def advance(self, seconds: float) -> None:
        """Move the clock by so many seconds, back with a negative number."""
        self.offset += seconds

    def freeze(self) -> None:
        """Let time pass by ``advance`` alone from now on."""
        frozen = self._now()
        self._now = lambda: frozen

    def text(self, after: float = 0.0) -> str:
        """Return the time in so many seconds as the API writes it: ``2026-01-01T00:00:00Z``."""
        return text(self.now() + after)


def text(seconds: float) -> str:
    """Return epoch seconds as the API writes them."""
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
