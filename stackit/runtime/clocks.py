"""The monotonic clock as the reactor's: timers keep their time when somebody sets the wall clock."""

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
