"""What the journal keeps of the last process: read at the start, or as soon as the journal can be read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.base import DelayedCall
from twisted.logger import Logger

from stackit.api.background import Background
from stackit.api.errors import JournalError
from stackit.api.reactor import Timers

_log = Logger(namespace="stackit")

_AGAIN = 1.0
"""Seconds until the journal is asked again."""


class StartLoads:
    """The functions that read it. Each is called again until it raises no JournalError.

    What else one of them raises fails the start; later it is logged, and the others are called all the same.
    The functions block the reactor while the journal is locked, so they are called again only when it has answered
    ``ask``, which blocks nothing and raises JournalError, too.
    With ``at_once`` such an error is raised, and fails the start: in a fleet others work on, and a handler that a
    person paused must not begin here.
    """

    def __init__(self, reactor: Timers, ask: Callable[[], Awaitable[object]], *, at_once: bool) -> None:
        self._reactor = reactor
        self._ask = ask
        self._at_once = at_once
        self._unread: list[tuple[str, Callable[[], None]]] = []
        self._timer: DelayedCall | None = None
        self._background = Background()
        self._is_stopped = False

    def load(self, what: str, load: Callable[[], None]) -> None:
        """Call a function now, and later again where the journal cannot be read yet.

        ``what`` says what it reads, for the log.
        """
        try:
            load()
        except JournalError:
            if self._at_once:
                raise
            self._unread.append((what, load))
            self._schedule()

    def try_again(self) -> None:
        """Call those again that could not read: the journal can be read, as far as is known."""
        self._cancel_timer()
        if self._is_stopped:
            return
        unread, self._unread = self._unread, []
        for what, load in unread:
            try:
                self.load(what, load)
            except Exception:  # noqa: BLE001 - a fault of stackit's own must not keep the others from being read
                _log.failure("{what} of the last process cannot be read: a fault of stackit's own", what=what)

    async def stop(self) -> None:
        """Call none any more."""
        self._is_stopped = True
        self._cancel_timer()
        await self._background.stop()

    def _schedule(self) -> None:
        if self._timer is None and not self._is_stopped:
            self._timer = self._reactor.callLater(_AGAIN, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._background.run(self._try_when_it_answers())

    async def _try_when_it_answers(self) -> None:
        try:
            await self._ask()
        except JournalError:
            self._schedule()
        else:
            self.try_again()

    def _cancel_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
