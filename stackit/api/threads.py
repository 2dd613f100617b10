"""A thread that tells whether it lives and moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class MonitoredThread(Protocol):
    """A thread that works off what it is given, in order.

    ``steps`` is a number that grows with every piece of work, also a part of a long one.
    """

    @property
    def steps(self) -> int:
        """Return how many pieces of work were done since the start."""

    @property
    def lives(self) -> bool:
        """Return False once the thread has ended."""

    def beat(self, done: Callable[[object], object]) -> None:
        """Call ``done`` in the reactor's thread, behind all that was given to the thread before."""
