"""Handlers that block the reactor, which stops all of stackit: found by the time that each step of them takes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from stackit.dispatch.step_file import REACTOR, StepFile

BOUND = 0.5
"""Seconds without a return to the reactor after which a handler is named."""
EVERY = 60.0
"""Seconds between two warnings about one handler."""


class CurrentStep:
    """What the reactor's thread is in: ``now`` is a handler and its event, None between handlers.

    Another thread may read it, to see what holds the reactor up. ``file`` tells the next process of it.
    """

    __slots__ = ("file", "now")

    def __init__(self, file: StepFile) -> None:
        self.file = file
        self.now: tuple[Any, Any] | None = None

    def enter(self, work: tuple[Any, Any]) -> tuple[Any, Any] | None:
        """Begin a step of a handler and its event; return what ``leave`` is to be given."""
        before, self.now = self.now, work
        self._mark(work)
        return before

    def leave(self, before: tuple[Any, Any] | None) -> None:
        """End a step: what the thread was in before goes on."""
        self.now = before
        if before is None:
            self.file.leave(REACTOR)
        else:
            self._mark(before)

    def _mark(self, work: tuple[Any, Any]) -> None:
        handler, event = work
        self.file.enter(REACTOR, event.id, handler.key)


class TimedCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine whose steps, from one ``await`` to the next, are timed.

    ``blocked`` is called with the seconds of a step that took longer than ``BOUND``.
    """

    __slots__ = ("_blocked", "_coroutine", "_of", "_seconds", "_step")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        seconds: Callable[[], float],
        blocked: Callable[[float], object],
        step: CurrentStep,
        of: tuple[Any, Any],
    ) -> None:
        """``seconds`` is the clock; ``step`` is ``of`` (a handler and its event) during each step."""
        self._step = step
        self._of = of
        self._coroutine = coroutine
        self._seconds = seconds
        self._blocked = blocked

    def send(self, value: Any) -> Any:
        began = self._seconds()
        before = self._step.enter(self._of)
        try:
            return self._coroutine.send(value)
        finally:
            self._step.leave(before)
            self._check(began)

    def throw(self, *fault: Any) -> Any:
        began = self._seconds()
        before = self._step.enter(self._of)
        try:
            return self._coroutine.throw(*fault)
        finally:
            self._step.leave(before)
            self._check(began)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()

    def _check(self, began: float) -> None:
        seconds = self._seconds() - began
        if seconds > BOUND:
            self._blocked(seconds)
