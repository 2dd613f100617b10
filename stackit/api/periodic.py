"""A service that does the same thing every few seconds."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service

from stackit.api.reactor import Timers, looping_call


class Periodic(Service):
    """Calls a function at its start, and again and again until its stop.

    Unlike Twisted's ``TimerService``, a stop waits for nothing: what a call began ends by itself.
    """

    def __init__(self, reactor: Timers, interval: float, function: Callable[[], object]) -> None:
        """Wait ``interval`` seconds from one call to the next, which waits for a Deferred or coroutine of the last."""
        self._interval = interval
        self._loop = looping_call(reactor, function)

    def startService(self) -> None:
        """Call the function now for the first time."""
        Service.startService(self)
        self._loop.start(self._interval, now=True)

    def stopService(self) -> None:
        """Call it no more."""
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()
