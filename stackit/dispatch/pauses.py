"""Paused subscribers: their events wait in the journal until a person resumes them, also over a restart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from twisted.internet.defer import DeferredLock

from stackit.api.occurrences import Occurrence
from stackit.bus.bus import Bus
from stackit.dispatch.dispatch import Dispatch
from stackit.journal import JournalProtocol
from stackit.text.times import rfc3339

COLLECTION = "paused"


class Pause(msgspec.Struct, frozen=True):
    """Who paused a subscriber, and when, in seconds since the epoch. Both are None where the document is damaged."""

    by: str | None
    at: float | None


class Pauses:
    """The subscribers that are paused, each a document of the journal by its key.

    A pause of a subscriber that is not loaded is kept: it holds when its plugin comes back.
    """

    def __init__(self, journal: JournalProtocol, dispatch: Dispatch, bus: Bus, *, now: Callable[[], float]) -> None:
        """``now`` is the wall clock."""
        self._journal = journal
        self._dispatch = dispatch
        self._bus = bus
        self._now = now
        self._lock = DeferredLock()
        self._paused: dict[str, Pause] = {}

    def load(self) -> None:
        """Pause the queues of the subscribers that were paused, before anything is handed to them. Blocks.

        A damaged document is a pause all the same: of whom and since when is lost.
        Raises JournalError where the journal cannot be read, and so has nothing to hand on either.
        """
        for key, document in self._journal.documents_now(COLLECTION).items():
            self._paused[key] = pause = _decoded(document)
            if key in self._dispatch.queues():
                self._dispatch.queues()[key].pause()
            of_whom = "by whom and since when cannot be read" if pause.at is None else f"by {pause.by}"
            since = "" if pause.at is None else f" since {rfc3339(pause.at)}"
            self._tell(key, f"paused{since}, {of_whom}: its events wait until it is resumed")

    def paused(self) -> Mapping[str, Pause]:
        """Return the subscribers that are paused, by their keys."""
        return self._paused

    def states(self) -> Mapping[str, bool]:
        """Return of each subscriber whether it is paused, by its name for people; of one not loaded only if it is."""
        return {self._bus.display(key): key in self._paused for key in (*self._dispatch.queues(), *self._paused)}

    async def pause(self, key: str, by: str) -> None:
        """Begin no more events of a subscriber; what it has in hand goes on. Once it returns, a restart keeps it.

        Raises JournalError where that cannot be written down, and changes nothing.
        """
        await self._lock.run(self._pause, key, by)

    async def resume(self, key: str, by: str) -> None:
        """Hand a subscriber its events again, those that waited first. Raises JournalError, and changes nothing."""
        await self._lock.run(self._resume, key, by)

    async def _pause(self, key: str, by: str) -> None:
        if key in self._paused:
            return
        pause = Pause(by, self._now())
        await self._journal.put(COLLECTION, {key: msgspec.json.encode(pause)})
        self._paused[key] = pause
        if key in self._dispatch.queues():
            self._dispatch.queues()[key].pause()
        self._tell(key, f"paused by {by}: its events wait until it is resumed")

    async def _resume(self, key: str, by: str) -> None:
        if key not in self._paused:
            return
        await self._journal.put(COLLECTION, {key: None})
        del self._paused[key]
        if key in self._dispatch.queues():
            self._dispatch.resume(key)
        self._tell(key, f"resumed by {by}")

    def _tell(self, key: str, reason: str) -> None:
        self._bus.observe(Occurrence(name="notice", subscriber=self._bus.display(key), reason=reason))


def _decoded(document: bytes) -> Pause:
    try:
        return msgspec.json.decode(document, type=Pause)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Pause(None, None)
