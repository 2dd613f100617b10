"""Documents of the mirrors that are written a little after they change, and again later where that fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from stackit import StackitError, Timers

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

AT_ONCE = 500
"""Documents of one write."""

_log = Logger(namespace="stackit")


class LateWrites:
    """The keys of documents that changed.

    ``write(keys)`` writes documents as they are by then, and raises StackitError where the journal does not take them:
    it tells of that by itself. They are written again ``again`` seconds later, as are those that change meanwhile.
    Any other exception is logged, and its documents are written when they change next.
    """

    def __init__(self, clock: Timers, write: Callable[[Collection[str]], Awaitable[None]], *, again: float) -> None:
        self._clock = clock
        self._write = write
        self._again = again
        self._changed: set[str] = set()
        self._timer: DelayedCall | None = None
        self._writing: Deferred[None] = succeed(None)
        self._is_writing = False
        self._stopped = False

    def is_waiting(self, key: str) -> bool:
        """Return whether a document is still to be written."""
        return key in self._changed

    def note(self, key: str, within: float) -> None:
        """Have a document written within so many seconds."""
        self._changed.add(key)
        self._schedule(within)

    async def stop(self) -> None:
        """Write what is not written yet, and nothing after that."""
        self._stopped = True
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._writing
        await self._write_all()

    def _schedule(self, within: float) -> None:
        if self._stopped or self._is_writing:
            return
        if self._timer is None or not self._timer.active():
            self._timer = self._clock.callLater(within, self._begin)
        elif self._timer.getTime() > self._clock.seconds() + within:
            self._timer.reset(within)

    def _begin(self) -> None:
        self._is_writing = True
        self._writing = Deferred.fromCoroutine(self._write_all())
        self._writing.addCallback(self._written)

    def _written(self, _: None) -> None:
        self._is_writing = False
        if self._changed:
            self._schedule(self._again)

    async def _write_all(self) -> None:
        changed = list(self._changed)
        for at in range(0, len(changed), AT_ONCE):
            some = changed[at : at + AT_ONCE]
            self._changed.difference_update(some)
            try:
                await self._write(some)
            except StackitError:
                self._changed.update(some)
                return
            except Exception:  # noqa: BLE001 - whatever is wrong with some of them, the others are written, and later ones
                _log.failure("documents of the mirrors were not written by a fault of stackit's own")
