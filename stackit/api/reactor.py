"""The reactor, as far as stackit and its plugins use it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

from twisted.internet.base import DelayedCall
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure

from stackit.text.units import Duration

# mypy does not know zope interfaces, Twisted's types of a reactor, for types. The arguments have Twisted's names.
# ruff: noqa: A002, N803

Result = TypeVar("Result")


class Timers(Protocol):
    """The timers of a reactor: Twisted's ``IReactorTime``, and so ``task.Clock`` in a test."""

    def seconds(self) -> float:
        """Return seconds that never run backwards and have no date."""

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kwargs: Any) -> DelayedCall:
        """Call a function after ``delay`` seconds."""

    def getDelayedCalls(self) -> Sequence[DelayedCall]:
        """Return the calls that are still to come."""


class Reactor(Timers, Protocol):
    """A reactor: timers, threads, descriptors, processes and the network."""

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call a function in the reactor's thread. No other method may be called from another thread."""

    def callWhenRunning(self, callable: Callable[..., object], *args: Any, **kwargs: Any) -> Any:
        """Call a function as soon as the reactor runs."""

    def stop(self) -> None:
        """Stop the reactor."""

    def addSystemEventTrigger(self, phase: str, eventType: str, callable: Callable[..., object], *args: Any) -> Any:
        """Call a function ``before``, ``during`` or ``after`` an event of the reactor, such as ``shutdown``."""

    def addReader(self, reader: Any) -> None:
        """Call ``doRead`` of an ``IReadDescriptor`` when it can be read from."""

    def removeReader(self, reader: Any) -> None:
        """End what ``addReader`` began."""

    def getReaders(self) -> list[Any]:
        """Return every reader."""

    def addWriter(self, writer: Any) -> None:
        """Call ``doWrite`` of an ``IWriteDescriptor`` when it can be written to."""

    def removeWriter(self, writer: Any) -> None:
        """End what ``addWriter`` began."""

    def getWriters(self) -> list[Any]:
        """Return every writer."""

    def spawnProcess(self, processProtocol: Any, executable: Any, *args: Any, **kwargs: Any) -> Any:
        """Start a child process; returns an ``IProcessTransport``."""

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Listen on a port; returns an ``IListeningPort``."""

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        """Connect to a host; returns an ``IConnector``."""


def sleep(reactor: Timers, seconds: float | str) -> Deferred[None]:
    """Return a Deferred that fires after so many seconds, or a time such as ``"5m"``; cancelling it ends the wait."""
    delay = Duration.parse(seconds) if isinstance(seconds, str) else seconds
    return deferLater(cast("IReactorTime", reactor), delay)


async def within(reactor: Timers, seconds: float, waiting: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of a coroutine that ends in so many seconds; it is cancelled then, and may still have a result.

    Raises TimeoutError where that ends it, and what the coroutine raises.
    """

    def too_late(outcome: Any, _: float) -> Any:
        if isinstance(outcome, Failure):
            outcome.trap(CancelledError)
            raise TimeoutError(f"not done within {seconds:g} s")
        return outcome

    return await Deferred.fromCoroutine(waiting).addTimeout(seconds, cast("IReactorTime", reactor), too_late)


@contextmanager
def overdue(reactor: Timers, seconds: float, act: Callable[[], object]) -> Iterator[None]:
    """Call a function, once, where what is inside takes longer than so many seconds; it goes on all the same."""
    timer = reactor.callLater(seconds, act)
    try:
        yield
    finally:
        if timer.active():
            timer.cancel()


def looping_call(reactor: Timers, function: Callable[[], object]) -> LoopingCall:
    """Return a LoopingCall of a function that goes by the timers of this reactor."""
    loop = LoopingCall(function)
    loop.clock = cast("IReactorTime", reactor)
    return loop
