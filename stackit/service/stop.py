"""The stop: what was opened is closed in reverse order, and what runs ends by itself within the grace, or is ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.errors import describe
from stackit.api.reactor import Reactor
from stackit.api.stop import Stop
from stackit.bus.backstop import Backstop
from stackit.bus.services import PluginServices
from stackit.bus.timeouts import end_within, wait_or_cancel
from stackit.dispatch.dispatch import Dispatch
from stackit.http.server.site import BoundedSite
from stackit.journal import JournalProtocol
from stackit.runtime.waiting import StopWaits
from stackit.service.node import ThisNode
from stackit.service.ports import Ports

_log = Logger(namespace="stackit")

_STOP_GRACES = 3
"""Graces that the service of a plugin, or the journal, has to stop; what it leaves undone is for the next start."""

_IDLE = 1.0
"""Seconds for which a connection stays open at a stop after it was made, or after a response, for a last request."""

_LAST_WRITE = 2.0
"""Seconds that each part has to write its last down."""

_LAST_REQUESTS = 2.0
"""Seconds that requests have at least which came in last, when everything else has ended."""


class Closers:
    """The functions that close what a start has opened, in the order in which it was opened."""

    def __init__(self) -> None:
        self._functions: list[Callable[[], object]] = []
        self._closed: Deferred[None] | None = None

    def add(self, close: Callable[[], object]) -> None:
        """Have ``close`` called before all that were added earlier. It may return a Deferred or a coroutine."""
        self._functions.append(close)

    def add_last(self, close: Callable[[], object]) -> None:
        """Have ``close`` called when all else is closed."""
        self._functions.insert(0, close)

    def close(self) -> Deferred[None]:
        """Call the functions, one after the other; what fails is logged. Later calls return the same Deferred."""
        if self._closed is None:
            self._closed = Deferred.fromCoroutine(self._close())
        return self._closed

    async def _close(self) -> None:
        while self._functions:
            close = self._functions.pop()
            await maybeDeferred(close).addErrback(_not_closed)


def _not_closed(failure: Failure) -> None:
    _log.error("not everything was closed: {problem}", problem=describe(failure.value))


class StopSteps:
    """The steps of a stop that take time. Each ends within its own part of the grace, or sooner if it is hurried."""

    def __init__(self, reactor: Reactor, grace: float) -> None:
        self._reactor = reactor
        self._grace = grace
        self._waits = StopWaits(reactor)

    def hurry(self) -> None:
        """Wait no longer: a second signal came."""
        self._waits.hurry()

    async def finish_work(
        self,
        stop: Stop,
        dispatch: Dispatch,
        backstop: Backstop,
        node: ThisNode,
        sites: Sequence[BoundedSite],
        ports: Ports,
    ) -> None:
        """Begin nothing new, and let requests, handlers and the backstop end within the grace, side by side.

        Each part of the work goes to other nodes as soon as nothing runs in it. What is delivered meanwhile is made
        durable, for the next process or for those: only then are the ports closed.
        """
        grace, began = self._grace, self._reactor.seconds()

        def running() -> list[str]:
            return in_hand(dispatch, backstop, sites)

        ending = [Deferred.fromCoroutine(each.stop()) for each in (dispatch, backstop)]
        leaving = Deferred.fromCoroutine(node.leave())
        ending.append(Deferred.fromCoroutine(wait_or_cancel(self._reactor, [leaving], grace)))
        stop.begin()  # dispatch and the backstop know of the stop, and take what ends by it for no failure
        ending += [site.wind_down(grace, idle=_IDLE) for site in sites]
        await self._waits.wait(ending, running, within=grace)
        await ports.close()
        left = min(grace, max(_LAST_REQUESTS, began + grace - self._reactor.seconds()))
        ending = [site.wind_down(left, idle=_IDLE) for site in sites]
        await self._waits.wait(ending, running, within=left)

    async def stop_plugins(self, services: PluginServices) -> None:
        """Stop the plugins' services, all at once."""
        within = _STOP_GRACES * (1.0 if self._waits.hurried else max(self._grace, 1.0))
        stopping = services.stop(self._reactor, within)

        def running() -> list[str]:
            return [f"the service of {plugin}" for plugin, stopped in stopping.items() if not stopped.called]

        await self._waits.wait([*stopping.values()], running, within=within)

    async def write_down(self, stop: Callable[[], Awaitable[None]]) -> None:
        """Stop what writes to the journal as its last deed. A journal that hangs does not hold up the others."""
        stopping = Deferred.fromCoroutine(_awaited(stop()))
        await end_within(self._reactor, stopping, _LAST_WRITE, "the last of it was not written down")

    async def close_journal(self, journal: JournalProtocol) -> None:
        """Close the journal. If it does not end in time, the process goes on without it."""
        within = _STOP_GRACES * max(self._grace, 1.0)
        closing = Deferred.fromCoroutine(journal.close())
        await end_within(self._reactor, closing, within, "the journal was not closed, which loses nothing")


async def _awaited(ending: Awaitable[None]) -> None:
    await ending


def in_hand(dispatch: Dispatch, backstop: Backstop, sites: Sequence[BoundedSite]) -> list[str]:
    """Return what a stop waits for, in words."""
    named = [f"{subscriber} ({count} in hand)" for subscriber, count in dispatch.in_hand().items()]
    named += [f"the backstop's round of {plugin}" for plugin in backstop.rounds()]
    requests = sum(site.count_requests() for site in sites)
    return [*named, f"requests ({requests})"] if requests else named
