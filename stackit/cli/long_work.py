"""Work of a command that blocks for a while: in a thread, with lines of progress, and ended if it is cancelled."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor

T = TypeVar("T")
_PAUSE = 2.0
"""Seconds between two lines of progress."""


class _Cancelled(Exception):
    """The person who gave the command does not want it any more."""


class Progress:
    """Tells on standard error how far a copy is, every ``pause`` seconds; ends it once it is cancelled."""

    def __init__(self, pause: float = _PAUSE) -> None:
        self.is_cancelled = False
        self._pause = pause
        self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Take so many pieces of so many as copied."""
        if self.is_cancelled:
            raise _Cancelled
        now = time.monotonic()
        if now - self._told >= self._pause and done < total:
            self._told = now
            sys.stderr.write(f"stackit: {100 * done // total} % copied\n")


async def in_thread(reactor: Reactor, work: Callable[[], T], progress: Progress) -> T:
    """Return what ``work``, which blocks, returns; raise what it raises. Cancelling ends it, and waits for its end."""
    waiting: Deferred[T] = Deferred()
    ended: Deferred[None] = Deferred()

    def run() -> None:
        outcome: T | Failure
        try:
            outcome = work()
        except BaseException:  # noqa: BLE001 - whatever ends it is its outcome
            outcome = Failure()
        reactor.callFromThread(finish, outcome)

    def finish(outcome: Any) -> None:
        ended.callback(None)
        waiting.callback(outcome)  # a Failure goes down the errbacks

    Thread(target=run, name="stackit copy", daemon=True).start()
    try:
        return await waiting
    except CancelledError:
        progress.is_cancelled = True
        await ended
        raise
