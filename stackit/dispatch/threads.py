"""Threads for handlers that block: each subscriber has threads of its own, and the stop waits for none of them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from threading import Thread
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor


class ThreadsBusy(Exception):
    """Every thread of the subscriber is held by a call that outlived its timeout."""

    def __init__(self, most: int) -> None:
        super().__init__(f"all {most} threads of this handler are held by calls that timed out and still run")


class Threads:
    """Run calls in daemon threads, at most ``most`` at a time.

    A thread cannot be stopped from outside. One that hangs is left behind: it counts
    against its subscriber alone, and, being a daemon, does not keep the process alive
    (the reactor's pool would do both, and is where names are resolved).
    """

    def __init__(self, reactor: Reactor, most: int) -> None:
        self._reactor = reactor
        self.most = most
        self._alive = 0

    def call(self, function: Callable[[object], object], value: object) -> Deferred[Any]:
        """Run ``function(value)`` in a thread. The Deferred fires with None, or fails with what the call raised.

        Cancelling abandons the thread. It fails with ThreadsBusy if every thread of the subscriber is held, and with
        RuntimeError or MemoryError if the system has no thread left.
        """
        if self._alive >= self.most:
            return fail(ThreadsBusy(self.most))
        done: Deferred[Any] = Deferred()

        def run() -> None:
            outcome: Failure | None = None
            try:
                if isawaitable(function(value)):
                    raise TypeError("a thread=True handler must do its work itself, not return something to wait for")
            except BaseException:  # noqa: BLE001 - whatever ends a foreign call is its outcome
                outcome = Failure()
            self._reactor.callFromThread(ended, outcome)

        def ended(outcome: Failure | None) -> None:
            self._alive -= 1
            done.callback(outcome)  # a Failure goes down the errbacks

        self._alive += 1
        try:
            Thread(target=run, name="stackit handler", daemon=True).start()
        except BaseException:  # noqa: BLE001 - no memory, or a limit on threads: this call has failed, and the next may not
            self._alive -= 1
            return fail()
        return done
