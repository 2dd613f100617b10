"""SIGTERM and SIGINT end stackit in order, with exit status 0; SIGHUP reloads, and never ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType

from stackit.api.reactor import Reactor


class Hangups:
    """SIGHUP, taken over from when this is made until the process ends.

    Each calls what ``call`` was given, in the reactor's thread; several that come before the call are one. Those that
    come before the reactor runs wait for it, and after its end they do nothing.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._reload: Callable[[], None] | None = None
        self._asked = False
        signal.signal(signal.SIGHUP, self._hung_up)
        # At its end, Python gives signals that have a handler their default action back, which would kill the process.
        reactor.addSystemEventTrigger("after", "shutdown", ignore_hangups)

    def call(self, reload: Callable[[], None]) -> None:
        """Have ``reload`` called from now on."""
        self._reload = reload

    def _hung_up(self, _number: int, _frame: FrameType | None) -> None:
        if not self._asked:
            self._asked = True
            self._reactor.callFromThread(self._take)

    def _take(self) -> None:
        self._asked = False
        if self._reload is not None:
            self._reload()


def ignore_hangups() -> None:
    """Do nothing at SIGHUP, which ends a process by default."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def stop_on_signals(reactor: Reactor, hurry: Callable[[], object]) -> None:
    """Stop the reactor on both signals, instead of twistd, which ends the process by the signal itself at last.

    ``hurry`` is called for each further signal.
    """

    asked = False

    def stop_or_hurry() -> None:
        nonlocal asked
        if asked:
            hurry()
        else:
            asked = True
            reactor.stop()

    def stop(_number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(stop_or_hurry)

    def take_over() -> None:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    # The reactor installs its own handlers as it starts to run.
    reactor.callWhenRunning(take_over)
