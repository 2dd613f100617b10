"""A coroutine that is run for what it does: nobody awaits it, or cancels it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
Work = Coroutine[Deferred[Any], Any, T]


def run(work: Work[T], done: Callable[[T], object], failed: Callable[[Failure], object]) -> None:
    """Run ``work``, then call ``done`` with what it returned; ``failed`` gets what either of them raised.

    ``Deferred.fromCoroutine`` makes a Deferred of it that can be awaited and cancelled, and takes three times as long.
    """
    _go_on(None, work, done, failed)


def _go_on(result: Any, work: Work[T], done: Callable[[T], object], failed: Callable[[Failure], object]) -> None:
    try:
        try:
            failure = isinstance(result, Failure)
            awaited = result.throwExceptionIntoGenerator(work) if failure else work.send(result)
        except StopIteration as end:
            done(end.value)
        else:
            awaited.addBoth(_go_on, work, done, failed)
    except BaseException:  # noqa: BLE001 - as a Deferred does it
        failed(Failure())
