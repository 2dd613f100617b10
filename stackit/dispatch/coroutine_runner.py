"""A coroutine that runs without a Deferred of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


class CoroutineRunner(Generic[T]):
    """Run a coroutine, then call ``done`` with what it returned; call ``failed`` with what either of them raised.

    ``Deferred.fromCoroutine`` makes a Deferred that can be awaited, takes three times as long, and leaves work for
    the garbage collector. It also gives the coroutine a context of its own (``contextvars``); this runs it in the
    caller's.
    """

    __slots__ = ("_awaited", "_coroutine", "_done", "_failed")

    def __init__(
        self,
        coroutine: Coroutine[Deferred[Any], Any, T],
        done: Callable[[T], object],
        failed: Callable[[Failure], object],
    ) -> None:
        self._coroutine = coroutine
        self._done = done
        self._failed = failed
        self._awaited: Deferred[Any] | None = None

    def start(self) -> None:
        """Run the coroutine until it waits for something, or ends."""
        self._resume(None)

    def cancel(self) -> None:
        """Cancel what the coroutine waits for; it goes on with the CancelledError of that."""
        if self._awaited is not None:
            self._awaited.cancel()

    def _resume(self, result: Any) -> None:
        try:
            try:
                failure = isinstance(result, Failure)
                awaited = (
                    result.throwExceptionIntoGenerator(self._coroutine) if failure else self._coroutine.send(result)
                )
            except StopIteration as end:
                self._done(end.value)
            else:
                self._awaited = awaited
                awaited.addBoth(self._resume)
        except BaseException:  # noqa: BLE001 - as a Deferred does it
            self._failed(Failure())
