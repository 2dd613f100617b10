"""Simulated time over real sockets, children and threads: time passes only while none of them has work."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from inspect import signature
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.process import reapProcessHandlers
from twisted.internet.task import Clock
from zope.interface import directlyProvides, providedBy

from stackit.api.reactor import Reactor, sleep
from stackit.subprocesses.pipes import Descriptor

GRAIN = 1.0
"""Seconds that pass at once, at least: what is due within them happens together."""
PATIENCE = 60.0
"""Real seconds in which everything comes to rest, or never will."""

_THREADS = ("stackit handler", "stackit app key")
"""The names of threads of stackit's that end when their work is done."""
_SOON = 0.002
"""Seconds; the reactor's own timers that are due later are those of its clocks and timeouts."""
_POLL = 0.0005
_MOMENT = 0.01
"""Seconds; what is due within them need not wait for rest."""


class Timelapse(Clock):
    """The real ``reactor`` with a simulated time, which ``pass_time`` moves.

    Give it to a stackit in place of the reactor, and ``now`` as its wall clock. What stackit waits for in its own
    threads shows nowhere; tell of the object whose methods wait for them with ``watch``.
    """

    def __init__(self, reactor: Reactor, *, patience: float = PATIENCE) -> None:
        """Begin at the reactor's own time. What is busy for ``patience`` real seconds is taken to be so for ever."""
        super().__init__()
        self._patience = patience
        self._ahead = time.time() - reactor.seconds()
        self.rightNow = reactor.seconds()
        self._reactor = reactor
        self._asked = 0
        self._strangers = self._children()  # those that were there before, and may stay
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def now(self) -> float:
        """The simulated wall clock."""
        return float(self.seconds() + self._ahead)

    def watch(self, asked: object) -> None:
        """Let no time pass while a method of this object has not given its result, or not called ``done`` with it."""
        for name in dir(asked):
            method = getattr(asked, name)
            if not name.startswith("_") and callable(method):
                calls_back = "done" in signature(method).parameters
                setattr(asked, name, self._calling_back(method) if calls_back else self._counted(method))

    async def pass_time(self, seconds: float) -> None:
        """Let so many seconds pass, and all happen that falls into them. Raises TimeoutError as ``rest`` does."""
        end = self.seconds() + seconds
        await self.rest()
        while self.seconds() < end:
            calls: Sequence[Any] = self.getDelayedCalls()
            due = calls[0].getTime() if calls else end
            self.advance(max(0.0, min(end, max(due, self.seconds() + GRAIN)) - self.seconds()))
            await self.rest()

    async def rest(self) -> None:
        """Wait until nothing is left to do without time passing. Raises TimeoutError for what goes on and on."""
        calm, deadline = 0, self._reactor.seconds() + self._patience
        while calm < 2:
            self._pass_moments()
            busy = self._busy()
            calm = 0 if busy else calm + 1
            if self._reactor.seconds() > deadline:
                what = ", ".join(self._reasons()) or "something"
                raise TimeoutError(f"still busy after {self._patience:g} s, while the time stood: {what}")
            await sleep(self._reactor, _POLL if busy else 0)

    def _pass_moments(self) -> None:
        """Let the next call happen now if it is due in a moment: such a pause belongs to running work."""
        calls: Sequence[Any] = self.getDelayedCalls()
        if calls and calls[0].getTime() <= self.seconds() + _MOMENT:
            self.advance(calls[0].getTime() - self.seconds())

    def _children(self) -> set[object]:
        """Return the running child processes, those of Twisted and those of stackit."""
        return {*reapProcessHandlers, *(each for each in self._reactor.getReaders() if isinstance(each, Descriptor))}

    def _reasons(self) -> list[str]:
        """Return what is waited for, in words."""
        pids = sorted(map(str, reapProcessHandlers.keys() - self._strangers))
        own = len(self._children() - self._strangers) - len(pids)
        threads = sorted(each.name for each in threading.enumerate() if each.name in _THREADS)
        reasons = [f"child {pid}" for pid in pids] + ([f"pipes to children ({own})"] if own else [])
        reasons += [f"thread {name}" for name in threads]
        return reasons + ([f"calls that were not answered ({self._asked})"] if self._asked else [])

    def _busy(self) -> bool:
        if (
            self._asked
            or self._children() - self._strangers
            or any(each.name in _THREADS for each in threading.enumerate())
            or self._resolves()
        ):
            return True
        now = self._reactor.seconds()
        if any(call.getTime() < now + _SOON for call in self._reactor.getDelayedCalls()):
            return True
        ready = select.poll()
        for reader in self._reactor.getReaders():
            ready.register(reader.fileno(), select.POLLIN)
        for writer in self._reactor.getWriters():
            ready.register(writer.fileno(), select.POLLIN | select.POLLOUT)
        return bool(ready.poll(0))

    def _resolves(self) -> bool:
        """Return True while the reactor's own threads are at work, in which names are resolved."""
        reactor: Any = self._reactor
        return bool(reactor.threadCallQueue or (reactor.threadpool is not None and reactor.threadpool.working))

    def _calling_back(self, method: Callable[..., Any]) -> Callable[..., Any]:
        parameters = signature(method)

        @wraps(method)
        def counted(*given: Any, **named: Any) -> Any:
            call = parameters.bind(*given, **named)
            done = call.arguments["done"]
            call.arguments["done"] = lambda result: done(self._done(result))
            self._asked += 1
            return method(*call.args, **call.kwargs)

        return counted

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def counted(*given: Any, **named: Any) -> Any:
            result = method(*given, **named)
            if isinstance(result, Coroutine):
                self._asked += 1
                return self._until_done(result)
            if isinstance(result, Deferred):
                self._asked += 1
                return result.addBoth(self._done)
            return result

        return counted

    async def _until_done(self, asked: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await asked
        finally:
            self._asked -= 1

    def _done(self, result: Any) -> Any:
        self._asked -= 1
        return result
