"""Clocks that nobody sets: the reactor's, so that timers keep their time, and one that goes on in a suspend."""

from __future__ import annotations

import time

from stackit.api.reactor import Reactor


def use_monotonic_time(reactor: Reactor) -> None:
    """Make ``time.monotonic`` the clock of the reactor's timers and of ``reactor.seconds()``.

    Twisted's own is the wall clock: set back by a day, it would make every timer a day late. Calls that are scheduled
    already keep the time that they have left.
    """
    shift = time.monotonic() - reactor.seconds()
    reactor.seconds = time.monotonic  # type: ignore[method-assign]  # Twisted has no other way
    for call in reactor.getDelayedCalls():
        call.seconds = time.monotonic
        call.delay(shift)


def seconds_since_boot() -> float:
    """Return the seconds since some moment in the past, those in which the machine was suspended included.

    That is on Linux; elsewhere it is ``time.monotonic``, which may stand still in a suspend.
    """
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
