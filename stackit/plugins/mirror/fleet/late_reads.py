"""Documents of the mirrors that other nodes change: read as soon as that is told, and again later where that fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit import StackitError, Timers, sleep

_log = Logger(namespace="stackit")


class LateReads:
    """The keys of documents that other nodes changed.

    ``read(keys)`` reads the documents with these keys (None: all of them) and takes them, and raises StackitError where
    the journal does not give them: it tells of that by itself. They are read again ``again`` seconds later. What
    changes during a reading is read after it. Any other exception is logged, and its documents are read when they
    change next.
    """

    def __init__(
        self, clock: Timers, read: Callable[[Collection[str] | None], Awaitable[None]], *, again: float
    ) -> None:
        self._clock = clock
        self._read = read
        self._again = again
        self._changed: set[str] | None = set()  # None: any
        self._reading: Deferred[None] = succeed(None)
        self._is_reading = False
        self._stopped = False

    def note(self, keys: Collection[str] | None) -> None:
        """Have documents read that changed; None: any may have."""
        self._want(keys)
        if not (self._is_reading or self._stopped):
            self._is_reading = True
            self._reading = Deferred.fromCoroutine(self._read_all())
            self._reading.addErrback(_ended)

    async def stop(self) -> None:
        """Read nothing more."""
        self._stopped = True
        self._reading.cancel()
        await self._reading

    def _want(self, keys: Collection[str] | None) -> None:
        self._changed = None if keys is None or self._changed is None else self._changed.union(keys)

    async def _read_all(self) -> None:
        try:
            while self._changed is None or self._changed:
                keys, self._changed = self._changed, set()
                try:
                    await self._read(keys)
                except CancelledError:
                    raise
                except StackitError:
                    self._want(keys)
                    await sleep(self._clock, self._again)
                except Exception:  # noqa: BLE001 - whatever is wrong with some of them, the others are read, and later ones
                    _log.failure("documents of the mirrors were not read by a fault of stackit's own")
        finally:
            self._is_reading = False


def _ended(failure: Failure) -> None:
    failure.trap(CancelledError)  # by the stop
