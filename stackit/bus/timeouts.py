"""Calls of foreign code that cannot raise, and Deferreds of it with a timeout."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import isawaitable, iscoroutine
from threading import get_ident
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, DeferredList, fail, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import describe
from stackit.api.reactor import Reactor, Timers
from stackit.api.tracebacks import describe_with_place

_log = Logger(namespace="stackit")


class HandlerTimeout(Exception):
    """The handler outlived its timeout and was cancelled."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not finished after {seconds:g} s, cancelled")


def call(function: Callable[..., Any], *values: object) -> Deferred[Any]:
    """Call a function of a plugin; return a Deferred of its result, awaited if it is awaitable. Never raises."""
    try:
        return to_deferred(function(*values))
    except BaseException:  # noqa: BLE001 - foreign code: whatever it raises is its outcome
        return fail(as_exception(Failure()))


def to_deferred(value: Any) -> Deferred[Any]:
    """Return a Deferred of a value: of its result, if it is awaitable."""
    if isinstance(value, Deferred) or iscoroutine(value) or not isawaitable(value):
        return maybeDeferred(lambda: value)
    return Deferred.fromCoroutine(_awaited(value))


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def with_timeout(reactor: Reactor, running: Deferred[Any], seconds: float) -> Deferred[Any]:
    """Return a Deferred of the outcome of ``running``, or of HandlerTimeout after so many seconds (0: no limit).

    Cancelling it cancels ``running``. A handler that does not end when it is cancelled is abandoned, and its outcome
    ignored, which ``Deferred.addTimeout`` cannot promise. The Deferred fails with an Exception only, and fires in the
    thread of this call, in whichever thread ``running`` fires. Never raises.
    """
    if type(running) is Deferred and running.called and not running.paused and not isinstance(running.result, Failure):
        return running  # the result of a plain function, mostly
    expired = False
    thread = get_ident()

    def give_up(_: Deferred[Any]) -> None:
        if timer is not None and timer.active():
            timer.cancel()
        _cancel(running)

    outcome: Deferred[Any] = Deferred(give_up)

    def expire() -> None:
        nonlocal expired
        expired = True
        _cancel(running)
        if not outcome.called:
            outcome.errback(HandlerTimeout(seconds))

    def ended(result: Any) -> None:
        if get_ident() != thread:  # a thread of the plugin's own called it back
            reactor.callFromThread(ended, result)
            return
        if timer is not None and timer.active():
            timer.cancel()
        if outcome.called:
            return
        if expired:
            outcome.errback(_timed_out(seconds, result))
        elif isinstance(result, Failure):
            outcome.errback(as_exception(result))
        else:
            outcome.callback(result)

    timer: DelayedCall | None = None
    try:
        running.addBoth(ended)
    except BaseException:  # noqa: BLE001 - foreign code: a Deferred may be of a class of the plugin's own
        ended(Failure())
    if seconds and not outcome.called:
        timer = reactor.callLater(seconds, expire)
    return outcome


def as_exception(failure: Failure) -> Failure:
    """Return a failure of an Exception: SystemExit and its like become a RuntimeError, which ends its own call alone.

    So does StopIteration, which a coroutine that awaits it would take for a result.
    """
    if isinstance(failure.value, Exception) and not isinstance(failure.value, StopIteration):
        return failure
    error = RuntimeError(describe(failure.value))
    error.__cause__ = failure.value
    return Failure(error)


def _timed_out(seconds: float, cancelled: Any) -> HandlerTimeout:
    """Return the failure of a handler that was cancelled, with the place where it waited."""
    fault = HandlerTimeout(seconds)
    if isinstance(cancelled, Failure):
        fault.__cause__ = cancelled.value
    return fault


def _cancel(running: Deferred[Any]) -> None:
    try:
        running.cancel()
    except BaseException as fault:  # noqa: BLE001 - a foreign canceller, which may raise anything
        _log.error("a handler failed while it was cancelled: {problem}", problem=describe_with_place(fault))


async def wait_or_cancel(reactor: Timers, running: Sequence[Deferred[Any]], grace: float) -> None:
    """Wait until all have ended; cancel those that have not after ``grace`` seconds. Failures are ignored.

    Each must end when it is cancelled, as the result of ``with_timeout`` does.
    """
    if not running:
        return

    def cut_short() -> None:
        for each in running:
            each.cancel()

    ended = DeferredList(running, consumeErrors=True)
    timer = reactor.callLater(grace, cut_short)
    await ended
    if timer.active():
        timer.cancel()


def end_within(reactor: Reactor, ending: Deferred[Any], seconds: float, otherwise: str) -> Deferred[None]:
    """Wait for an end; log ``otherwise``, with the reason, if it does not come within so many seconds."""

    def failed(failure: Failure) -> None:
        _log.error("{otherwise}: {problem}", otherwise=otherwise, problem=describe(failure.value))

    return with_timeout(reactor, ending, seconds).addErrback(failed)
