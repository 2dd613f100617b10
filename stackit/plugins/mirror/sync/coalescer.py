"""Many requests in few rounds: each request gets the result of a round that starts after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from stackit import StackitError, Timers
from stackit.plugins.mirror.sync.requests import Stopping

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

Ask = TypeVar("Ask")
Result = TypeVar("Result")

QUIET_LIMIT = 10
"""Requests that never pause for a debounce window are answered after this many windows."""


class Coalescer(Generic[Ask, Result]):
    """One round at a time; the requests during a round share exactly one more.

    ``turn`` waits for permission to start a round, and returns the function that gives it back; requests that arrive
    meanwhile still join that round. ``work`` is the round, called with all requests. With a ``debounce`` (seconds), a
    round starts when there was no request for so long.
    """

    def __init__(
        self,
        clock: Timers,
        work: Callable[[list[Ask]], Awaitable[Result]],
        turn: Callable[[], Awaitable[Callable[[], None]]],
        debounce: float = 0,
    ) -> None:
        self._clock = clock
        self._work = work
        self._turn = turn
        self.debounce = debounce
        self._next: list[tuple[Ask, Deferred[Result]]] = []
        self._current: list[Ask] = []
        self._joined: list[Deferred[Result]] = []
        self._busy = False
        self._in_line = False  # the round waits for its turn
        self._running: Deferred[None] | None = None
        self._window: DelayedCall | None = None
        self._opened = 0.0
        self._idle: list[Deferred[None]] = []
        self._stopped = False
        self._stop_error: Callable[[], StackitError] = Stopping

    @property
    def stopped(self) -> bool:
        """True once no more rounds start."""
        return self._stopped

    def stop_error(self) -> StackitError:
        """Make the error that says why no more rounds start."""
        return self._stop_error()

    @property
    def waiting(self) -> list[Ask]:
        """The requests since the last round began."""
        return [ask for ask, _ in self._next]

    @property
    def running(self) -> list[Ask]:
        """The requests of the round that runs; none if no round does."""
        return self._current

    @property
    def busy(self) -> bool:
        """True while a round runs or is due."""
        return self._busy or bool(self._next)

    def ask(self, ask: Ask, *, urgent: bool = False) -> Deferred[Result]:
        """Return the result of a round that starts after this call; ``urgent`` skips the debounce.

        Cancelling ends only the waiting. Fails with ``stop_error()`` when stopped.
        """
        answer: Deferred[Result] = Deferred()
        if self._stopped:
            answer.errback(Failure(self.stop_error()))
            return answer
        if not self._next:
            self._opened = self._clock.seconds()
        self._next.append((ask, answer))
        self._schedule(urgent)
        return answer

    def join(self) -> Deferred[Result]:
        """Return the result of the round that runs; there must be one, see ``running``.

        Cancelling ends only the waiting.
        """
        answer: Deferred[Result] = Deferred()
        self._joined.append(answer)
        return answer

    def stop(self, error: Callable[[], StackitError] = Stopping) -> None:
        """Start no more rounds; requests that wait fail with ``error()``. A round that runs goes on."""
        self._stopped, self._stop_error = True, error
        self._close_window()
        waiting, self._next = self._next, []
        for _, answer in waiting:
            if not answer.called:
                answer.errback(Failure(error()))
        if self._in_line and self._running is not None:
            self._running.cancel()

    def idle(self) -> Deferred[None]:
        """Return a Deferred that fires when no round runs."""
        if not self._busy:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._idle.append(waiter)
        return waiter

    def cancel(self) -> None:
        """Cancel the round that runs; ``idle`` fires when it has ended."""
        if self._running is not None:
            self._running.cancel()

    def _schedule(self, urgent: bool) -> None:
        if self._busy:
            return
        if self.debounce == 0 or urgent:
            self._close_window()
            self._start()
            return
        now = self._clock.seconds()
        wait = max(0.0, min(now + self.debounce, self._opened + QUIET_LIMIT * self.debounce) - now)
        self._close_window()
        self._window = self._clock.callLater(wait, self._start)

    def _close_window(self) -> None:
        if self._window is not None and self._window.active():
            self._window.cancel()
        self._window = None

    def _start(self) -> None:
        self._window = None
        self._busy = True
        running = Deferred.fromCoroutine(self._round())
        self._running = running
        running.addBoth(self._ended)

    async def _round(self) -> None:
        self._in_line = True
        try:
            give_back = await self._turn()
        finally:
            self._in_line = False
        try:
            taken, self._next = self._next, []
            self._current, self._joined = [ask for ask, _ in taken], [answer for _, answer in taken]
            outcome: Result | Failure
            try:
                outcome = await self._work(self._current)
            except Exception as problem:  # noqa: BLE001 - whatever ended the round is the answer for who asked
                outcome = Failure(problem)
            joined, self._joined, self._current = self._joined, [], []
            for answer in joined:
                if not answer.called:
                    answer.callback(outcome)  # a Failure goes down the errbacks
        finally:
            give_back()

    def _ended(self, outcome: object) -> None:
        self._busy = False
        self._running = None
        if isinstance(outcome, Failure):
            # There was no permission, so no round took the requests.
            waiting, self._next = self._next, []
            for _, answer in waiting:
                if not answer.called:
                    answer.errback(outcome)
        elif self._next and not self.stopped:
            self._opened = self._clock.seconds()
            self._schedule(urgent=False)
        if not self._busy:
            waiters, self._idle = self._idle, []
            for waiter in waiters:
                waiter.callback(None)
