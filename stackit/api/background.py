"""Work that goes on beside everything else, and is ended by a stop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList


class Background:
    """The coroutines that something runs in the background."""

    def __init__(self) -> None:
        self._running: set[Deferred[Any]] = set()

    def run(self, work: Coroutine[Any, Any, Any]) -> Deferred[None]:
        """Begin a coroutine, and return a Deferred that fires when it is over or was ended by ``stop``."""
        running: Deferred[Any] = Deferred.fromCoroutine(work)
        self._running.add(running)

        def ended(result: Any) -> Any:
            self._running.discard(running)
            return result

        return running.addBoth(ended).addErrback(lambda failure: failure.trap(CancelledError) and None)

    async def stop(self) -> None:
        """End everything that runs, and return when it is over."""
        running = list(self._running)
        for each in running:
            each.cancel()
        await DeferredList(running)
