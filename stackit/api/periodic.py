"""A service that does the same thing every few seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.reactor import Timers, looping_call

_log = Logger(namespace="stackit")


class Periodic(Service):
    """Calls a function at its start, and again and again until its stop.

    Unlike with Twisted's ``TimerService``, a stop waits for nothing: what a call began ends by itself; and what a call
    raises is logged, and ends nothing.
    """

    def __init__(self, reactor: Timers, interval: float, function: Callable[[], object]) -> None:
        """Wait ``interval`` seconds from one call to the next, which waits for a Deferred or coroutine of the last."""
        self._interval = interval
        self._function = function
        self._loop = looping_call(reactor, self._call)

    def startService(self) -> None:
        """Call the function now for the first time."""
        Service.startService(self)
        self._loop.start(self._interval, now=True)

    def stopService(self) -> None:
        """Call it no more."""
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

    def _call(self) -> Deferred[Any]:
        return maybeDeferred(self._function).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        _log.failure(
            "what {what} does by the clock failed by a fault of stackit's own", failure, what=type(self).__name__
        )
