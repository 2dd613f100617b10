"""A coroutine that is run for what it does: nobody awaits it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
Work = Coroutine[Deferred[Any], Any, T]


class Run(Generic[T]):
    """Runs ``work``, then calls ``done`` with what it returned; ``failed`` gets what either of them raised.

    ``Deferred.fromCoroutine`` makes a Deferred of it that can be awaited, takes three times as long, and leaves work
    for the garbage collector. It also gives it a context of its own (``contextvars``); this runs it in its caller's.
    """

    __slots__ = ("_awaited", "_done", "_failed", "_work")

    def __init__(self, work: Work[T], done: Callable[[T], object], failed: Callable[[Failure], object]) -> None:
        self._work = work
        self._done = done
        self._failed = failed
        self._awaited: Deferred[Any] | None = None

    def start(self) -> None:
        self._go_on(None)

    def cancel(self) -> None:
        """Cancel what it waits for; it goes on with the CancelledError of that."""
        if self._awaited is not None:
            self._awaited.cancel()

    def _go_on(self, result: Any) -> None:
        try:
            try:
                failure = isinstance(result, Failure)
                awaited = result.throwExceptionIntoGenerator(self._work) if failure else self._work.send(result)
            except StopIteration as end:
                self._done(end.value)
            else:
                self._awaited = awaited
                awaited.addBoth(self._go_on)
        except BaseException:  # noqa: BLE001 - as a Deferred does it
            self._failed(Failure())
