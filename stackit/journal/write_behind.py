"""Documents of the journal that are written soon after they change, and again later where that fails."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed

from stackit.api.errors import JournalError
from stackit.journal.protocol import JournalProtocol


class WriteBehind:
    """The changed documents of one collection. What changes while others are written goes into the next write."""

    def __init__(self, journal: JournalProtocol, collection: str) -> None:
        self._journal = journal
        self._collection = collection
        self._changed: dict[str, bytes | None] = {}
        self._batch: dict[str, bytes | None] = {}  # being written
        self._is_writing = False
        self._writing: Deferred[None] = succeed(None)
        self._waiting: list[Deferred[None]] = []

    def put(self, key: str, document: bytes | None) -> None:
        """Have a document written; None has it deleted."""
        self._changed[key] = document
        self.write()

    def drop(self, key: str) -> None:
        """Leave a document as it is in the journal, if it is not being written already."""
        self._changed.pop(key, None)

    def is_pending(self, key: str) -> bool:
        """Return whether a document is not written yet."""
        return key in self._changed or key in self._batch

    def write(self) -> None:
        """Write what is not written yet. Call it now and then: what could not be written stays for the next time."""
        if self._changed and not self._is_writing:
            self._is_writing = True
            self._writing = Deferred.fromCoroutine(self._write())

    async def flush(self) -> None:
        """Write everything that is not written yet, as far as the journal takes it."""
        await self._writing
        self.write()
        await self._writing

    async def settled(self) -> None:
        """Return once what was changed before this is written, or could not be."""
        if self._is_writing:
            ended: Deferred[None] = Deferred()
            self._waiting.append(ended)
            await ended

    async def _write(self) -> None:
        try:
            while self._changed:
                self._batch, self._changed = self._changed, {}
                try:
                    await self._journal.put(self._collection, self._batch)
                except JournalError:  # the journal tells of it itself
                    self._changed = {**self._batch, **self._changed}
                    return
                finally:
                    self._batch = {}
        finally:
            self._is_writing = False
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)
