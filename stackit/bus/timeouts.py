"""Foreign work, bounded in time whatever it does about it."""

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
from stackit.api.reactor import Reactor

_log = Logger(namespace="stackit")


class HandlerTimeout(Exception):
    """The handler outlived its timeout and was cancelled."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not finished after {seconds:g} s, cancelled")


def call(function: Callable[..., Any], *values: object) -> Deferred[Any]:
    """What foreign code returns or raises, or what the awaitable that it returns comes to. Never raises."""
    try:
        return to_deferred(function(*values))
    except BaseException:  # noqa: BLE001 - foreign code: whatever it raises is its outcome
        return fail(as_exception(Failure()))


def to_deferred(value: Any) -> Deferred[Any]:
    """What a value is, or comes to where it is something to wait for, of whatever class."""
    if isinstance(value, Deferred) or iscoroutine(value) or not isawaitable(value):
        return maybeDeferred(lambda: value)
    return Deferred.fromCoroutine(_awaited(value))


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def with_timeout(reactor: Reactor, running: Deferred[Any], seconds: float) -> Deferred[Any]:
    """The outcome of ``running``, or HandlerTimeout after so many seconds (0: no limit).

    A handler that survives its cancellation is abandoned: its outcome is nobody's then,
    which ``Deferred.addTimeout`` cannot promise. Cancelling the result cancels the handler.
    It fails with an Exception, and comes in this thread, from wherever ``running`` is called back. Never raises.
    """
    if type(running) is Deferred and running.called and not running.paused and not isinstance(running.result, Failure):
        return running  # a plain function, mostly: there is nothing left to bound
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
            outcome.errback(HandlerTimeout(seconds))
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
    """A failure that may be raised anywhere: SystemExit and its like end the call that raised them, and nothing else.

    Where a coroutine awaits it, StopIteration would be taken for a result.
    """
    if isinstance(failure.value, Exception) and not isinstance(failure.value, StopIteration):
        return failure
    return Failure(RuntimeError(describe(failure.value)))


def _cancel(running: Deferred[Any]) -> None:
    try:
        running.cancel()
    except BaseException as fault:  # noqa: BLE001 - a foreign canceller, which may raise anything
        _log.error("a handler failed while it was cancelled: {problem}", problem=describe(fault))


async def wait_or_cancel(reactor: Reactor, running: Sequence[Deferred[Any]], grace: float) -> None:
    """Wait until all have ended; what has not after ``grace`` seconds is cancelled. Failures are swallowed.

    Each must end when it is cancelled, as what ``with_timeout`` returns does.
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
