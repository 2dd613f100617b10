"""The service that keeps the journal small."""

from __future__ import annotations

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from stackit.api.errors import JournalError
from stackit.api.reactor import Timers
from stackit.journal.protocol import JournalProtocol

INTERVAL = 60.0


class Pruner(Service):
    """Prunes the journal once a minute, in small steps, so that no delivery waits for it."""

    def __init__(self, *, reactor: Timers, now: Callable[[], float], journal: JournalProtocol) -> None:
        self._now = now
        self._journal = journal
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._round()))
        self._loop.clock = reactor  # type: ignore[assignment]  # Twisted asks for a zope interface

    def startService(self) -> None:
        Service.startService(self)
        self._loop.start(INTERVAL, now=True)

    def stopService(self) -> None:
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

    async def _round(self) -> None:
        try:
            while self.running and await self._journal.prune(self._now()):
                pass
        except JournalError:
            pass  # /readyz tells why; the next round tries again
