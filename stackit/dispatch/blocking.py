"""Handlers that block the reactor, which stops all of stackit: found by the time that each step of them takes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

BOUND = 0.5
"""Seconds without a return to the reactor after which a handler is named."""
EVERY = 60.0
"""Seconds between two warnings about one handler."""


class TimedCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine whose steps, from one ``await`` to the next, are timed.

    ``blocked`` is called with the seconds of a step that took longer than ``BOUND``.
    """

    __slots__ = ("_blocked", "_coroutine", "_seconds")

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], seconds: Callable[[], float], blocked: Callable[[float], object]
    ) -> None:
        """``seconds`` is the clock."""
        self._coroutine = coroutine
        self._seconds = seconds
        self._blocked = blocked

    def send(self, value: Any) -> Any:
        began = self._seconds()
        try:
            return self._coroutine.send(value)
        finally:
            self._check(began)

    def throw(self, *fault: Any) -> Any:
        began = self._seconds()
        try:
            return self._coroutine.throw(*fault)
        finally:
            self._check(began)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Any:
        return self._coroutine.__await__()

    def _check(self, began: float) -> None:
        seconds = self._seconds() - began
        if seconds > BOUND:
            self._blocked(seconds)
