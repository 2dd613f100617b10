"""The two clocks: one for what waits and lasts, which nobody can set, and the wall clock for people."""

from __future__ import annotations

import time

from stackit.api.reactor import Reactor


def use_monotonic_time(reactor: Reactor) -> None:
    """Let the reactor's timers, and ``reactor.seconds()``, go by ``time.monotonic``.

    Twisted's own go by the wall clock: set back by a day, every timer would be a day late. What is scheduled
    already keeps the time that it has left.
    """
    shift = time.monotonic() - reactor.seconds()
    reactor.seconds = time.monotonic  # type: ignore[method-assign]
    for call in reactor.getDelayedCalls():
        call.seconds = time.monotonic
        call.delay(shift)
