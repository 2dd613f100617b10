"""Foreign work, bounded in time whatever it does about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.app import Reactor
from stackit.errors import describe

_log = Logger(namespace="stackit")


class HandlerTimeout(Exception):
    """The handler outlived its timeout and was cancelled."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"not finished after {seconds:g} s, cancelled")


def bounded(reactor: Reactor, running: Deferred[Any], seconds: float) -> Deferred[Any]:
    """The outcome of ``running``, or HandlerTimeout after so many seconds (0: no limit).

    A handler that survives its cancellation is abandoned: its outcome is nobody's then,
    which ``Deferred.addTimeout`` cannot promise. Cancelling the result cancels the handler.
    """
    if running.called and not running.paused and not isinstance(running.result, Failure):
        return running  # a plain function, mostly: there is nothing left to bound
    expired = False

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
        if timer is not None and timer.active():
            timer.cancel()
        if outcome.called:
            return
        if expired:
            outcome.errback(HandlerTimeout(seconds))
        elif isinstance(result, Failure):
            outcome.errback(_contained(result))
        else:
            outcome.callback(result)

    timer: DelayedCall | None = None
    running.addBoth(ended)
    if seconds and not outcome.called:
        timer = reactor.callLater(seconds, expire)
    return outcome


def _contained(failure: Failure) -> Failure:
    """SystemExit and its like end the handler that raised them, and nothing else."""
    return failure if isinstance(failure.value, Exception) else Failure(RuntimeError(describe(failure.value)))


def _cancel(running: Deferred[Any]) -> None:
    try:
        running.cancel()
    except Exception as fault:  # noqa: BLE001 - a foreign canceller, which may raise anything
        _log.error("a handler failed while it was cancelled: {problem}", problem=describe(fault))


async def settle(reactor: Reactor, running: Sequence[Deferred[Any]], grace: float) -> None:
    """Wait until all have ended; what has not after ``grace`` seconds is cancelled. Failures are swallowed.

    Each must end when it is cancelled, as what ``bounded`` returns does.
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
