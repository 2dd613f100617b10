"""A watch over the questions to a journal: told where none is answered for longer than a moment, and once one is."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stackit.api.reactor import Timers

MOMENT = 2.0
"""Seconds without an answer to any question after which people are told."""
_AGAIN = 1.0
"""Seconds between two small questions while none is answered."""


class ReadingWatch:
    """Asks a small question again and again once another failed, until it is answered.

    Those who ask try again in silence, so what cannot be read would be missed. ``problem`` is a line for people, None
    while questions are answered.
    """

    def __init__(
        self,
        ask: Callable[[], Deferred[object]],
        *,
        reactor: Timers,
        notice: Callable[[str], object],
        is_explained: Callable[[], bool],
    ) -> None:
        """``ask`` asks a small question. ``notice`` is called with the problem, and with a line once it is over.

        ``is_explained`` returns whether people are told already of what is wrong: that the database is away.
        """
        self.problem: str | None = None
        self._ask = ask
        self._reactor = reactor
        self._notice = notice
        self._is_explained = is_explained
        self._since: float | None = None
        self._timer: DelayedCall | None = None
        self._is_stopped = False

    def failed(self) -> None:
        """Take note that a question failed: see whether others do."""
        if self._since is None and not self._is_stopped:
            self._since = self._reactor.seconds()
            self._ask_later()

    def stop(self) -> None:
        """Ask nothing more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ask_later(self) -> None:
        if not self._is_stopped:
            self._timer = self._reactor.callLater(_AGAIN, self._ask_again)

    def _ask_again(self) -> None:
        self._timer = None
        self._ask().addCallbacks(self._answered, self._still)

    def _answered(self, _: object) -> None:
        problem, self.problem, self._since = self.problem, None, None
        if problem is not None:
            self._notice("the journal can be read again")

    def _still(self, failure: Failure) -> None:
        lasts = self._since is not None and self._reactor.seconds() - self._since >= MOMENT
        if lasts and not self._is_stopped and not self._is_explained():
            is_new = self.problem is None
            self.problem = f"{failure.value}; what waits in the journal is not handled until it can be read"
            if is_new:
                self._notice(self.problem)
        self._ask_later()
