"""The waits of a stop: the log says for what, and another signal ends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger

from stackit.api.reactor import Timers

_log = Logger(namespace="stackit")

FIRST_LINE = 0.25
"""Seconds of waiting after which the log says for what: less is not worth a line."""
NEXT_LINE = 5.0
"""Seconds after which the log says it again."""


class StopWaits:
    """Waits for what a stop lets come to its end, one wait after the other.

    ``hurried`` is true once somebody did not want to wait any longer.
    """

    def __init__(self, reactor: Timers) -> None:
        self.hurried = False
        self._reactor = reactor
        self._ending: list[Deferred[Any]] = []
        self._next_line: DelayedCall

    async def wait(self, ending: Sequence[Deferred[Any]], what: Callable[[], Sequence[str]], *, within: float) -> None:
        """Wait until all have fired, which they do within so many seconds. Their failures are ignored.

        ``what`` names that which is still waited for. Each Deferred must fire soon once it is cancelled.
        """
        all_ended = DeferredList(ending, consumeErrors=True)
        if all_ended.called:
            return
        until = self._reactor.seconds() + within

        def say() -> None:
            self._say(what(), until)
            self._next_line = self._reactor.callLater(NEXT_LINE, say)

        self._next_line = self._reactor.callLater(FIRST_LINE, say)
        self._ending = list(ending)
        try:
            await all_ended
        finally:
            self._ending = []
            self._next_line.cancel()

    def hurry(self) -> None:
        """Wait no longer for what is waited for now."""
        self.hurried = True
        if self._ending:
            _log.info("stopping: another signal came, what still runs is ended now")
        for each in tuple(self._ending):
            each.cancel()

    def _say(self, named: Sequence[str], until: float) -> None:
        if named:
            _log.info(
                "stopping: waits for {what}, up to {seconds} s; another SIGTERM or SIGINT (Ctrl-C) ends the wait",
                what=", ".join(named),
                seconds=max(0, round(until - self._reactor.seconds())),
            )
