"""Documents of the journal that other processes change, too: what they change is read, and told, soon after."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import DeferredLock
from twisted.logger import Logger
from twisted.python.failure import Failure

from stackit.api.background import Background
from stackit.api.errors import JournalError
from stackit.api.reactor import Timers
from stackit.api.tracebacks import describe_with_place

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

_log = Logger(namespace="stackit")

GATHER = 0.05
"""Seconds in which changes gather before they are read: those of one transaction are read together."""
_AGAIN = 1.0
"""Seconds until documents are read again that could not be read."""


class WatchedJournal(Protocol):
    """The part of the journal that tells of documents."""

    def watch(self, collection: str, changed: Callable[[frozenset[str] | None], object]) -> None:
        """Call ``changed`` when another process changed documents: with their keys, or None for any."""

    async def documents(self, collection: str, keys: Collection[str] | None = None) -> dict[str, bytes]:
        """Return the documents of a collection, or those with these keys."""


class FollowedDocuments:
    """One collection. In a journal that one process has for itself, nothing is ever read.

    A document that cannot be taken, of a newer stackit or written by hand, is left out with one line in the log, and
    keeps no other from being taken.
    """

    def __init__(
        self,
        journal: WatchedJournal,
        collection: str,
        take: Callable[[Mapping[str, bytes | None]], object],
        *,
        known: Callable[[], Iterable[str]],
        reactor: Timers,
        lock: DeferredLock | None = None,
        on_trouble: Callable[[str | None], object] | None = None,
    ) -> None:
        """``take`` is given the documents that may have changed, by their keys; None stands for one that is gone.

        ``known`` returns the keys of the documents that the journal had, as far as is known here. ``lock`` is held
        from before a reading until its documents are taken: own changes that hold it, too, are never undone by an
        answer from before them. ``on_trouble`` is called with the reason why changes cannot be read, as often as that
        is tried, and with None once they are: the journal itself tells of what keeps all from being read.
        """
        self._journal = journal
        self._collection = collection
        self._take = take
        self._known = known
        self._reactor = reactor
        self._lock = DeferredLock() if lock is None else lock
        self._keys: set[str] | None = set()  # those to read; None for all
        self._timer: DelayedCall | None = None
        self._is_reading = False
        self._is_stopped = False
        self._left_out: set[str] = set()
        self._on_trouble = on_trouble or _ignore
        self._background = Background()
        journal.watch(collection, self._changed)

    async def read(self) -> None:
        """Read all documents now, and take them. Raises JournalError."""
        await self._lock.run(self._read, None)

    def read_soon(self) -> None:
        """Have all documents read, and taken, as if any of them had changed."""
        self._changed(None)

    async def stop(self) -> None:
        """Read nothing more."""
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._background.stop()

    def _changed(self, keys: frozenset[str] | None) -> None:
        self._want(keys)
        self._schedule(GATHER)

    def _want(self, keys: Iterable[str] | None) -> None:
        if keys is None:
            self._keys = None
        elif self._keys is not None:
            self._keys.update(keys)

    def _schedule(self, seconds: float) -> None:
        if not (self._is_stopped or self._is_reading or self._timer is not None):
            self._timer = self._reactor.callLater(seconds, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._is_reading = True
        self._background.run(self._follow())

    async def _follow(self) -> None:
        pause = GATHER
        try:
            await self._lock.run(self._read_wanted)
        except JournalError as problem:
            pause = _AGAIN
            self._on_trouble(str(problem))
        else:
            self._on_trouble(None)
        finally:
            self._is_reading = False
        if self._keys is None or self._keys:
            self._schedule(pause)

    async def _read_wanted(self) -> None:
        keys, self._keys = self._keys, set()
        try:
            await self._read(keys)
        except JournalError:
            self._want(keys)
            raise

    async def _read(self, keys: Collection[str] | None) -> None:
        known = list(self._known()) if keys is None else keys
        documents = await self._journal.documents(self._collection, keys)
        changes = {**dict.fromkeys(known), **documents}
        try:
            self._take(changes)
        except Exception:  # noqa: BLE001 - a document may be anything; which of them it was is seen one by one
            failure = Failure()
            taken = [self._take_alone(key, document) for key, document in changes.items()]
            if all(taken):
                _log.failure(
                    "the documents of {collection} were taken one by one: all at once, a fault of stackit's own kept "
                    "them from it",
                    failure,
                    collection=self._collection,
                )
        else:
            self._left_out.difference_update(changes)

    def _take_alone(self, key: str, document: bytes | None) -> bool:
        """Take one document; returns False if it is left out."""
        try:
            self._take({key: document})
        except Exception as fault:  # noqa: BLE001 - it is told of, and the others are taken
            if key not in self._left_out:
                self._left_out.add(key)
                _log.warn(
                    "the document {key} of {collection} is left out, as if it were not in the journal: {problem}",
                    key=key,
                    collection=self._collection,
                    problem=describe_with_place(fault),
                )
            return False
        self._left_out.discard(key)
        return True


def _ignore(_problem: str | None) -> None:
    """Drop what is told."""
