"""Threads for the handlers that block: each subscriber has its own, and stackit waits for none."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutine
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from stackit.app import Reactor


class ThreadsBusy(Exception):
    """Every thread of the subscriber is held by a call that outlived its timeout."""

    def __init__(self, most: int) -> None:
        super().__init__(f"all {most} threads of this handler are held by calls that timed out and still run")


class Threads:
    """Calls in threads of their own, ``most`` at a time.

    A thread cannot be stopped from outside. One that hangs is left behind: it counts
    against its subscriber alone, and, being a daemon, does not keep the process alive
    (the reactor's pool would do both, and is where names are resolved).
    """

    def __init__(self, reactor: Reactor, most: int) -> None:
        self._reactor = reactor
        self._most = most
        self._alive = 0

    def call(self, function: Callable[[object], object], value: object) -> Deferred[Any]:
        """What ``function(value)`` returns or raises, run in a thread. Cancelling abandons the thread."""
        if self._alive >= self._most:
            return fail(ThreadsBusy(self._most))
        done: Deferred[Any] = Deferred()

        def run() -> None:
            try:
                result = function(value)
                if isinstance(result, Deferred) or iscoroutine(result):
                    raise TypeError("a thread=True handler must do its work itself, not return something to wait for")
            except BaseException:  # noqa: BLE001 - whatever ends a foreign call is its outcome
                result = Failure()
            self._reactor.callFromThread(ended, result)

        def ended(result: Any) -> None:
            self._alive -= 1
            done.callback(result)  # a Failure goes down the errbacks

        self._alive += 1
        Thread(target=run, name="stackit handler", daemon=True).start()
        return done
