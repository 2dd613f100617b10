"""Paused subscribers: their events wait in the journal until a person resumes them, over a restart, at all nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
from twisted.internet.defer import DeferredLock

from stackit.api.errors import JournalError
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Timers
from stackit.bus.bus import Bus
from stackit.dispatch.dispatch import Dispatch
from stackit.journal import JournalProtocol
from stackit.journal.followed import FollowedDocuments
from stackit.text.times import rfc3339

COLLECTION = "paused"


class Pause(msgspec.Struct, frozen=True):
    """Who paused a subscriber, and when, in seconds since the epoch. Both are None where the document is damaged."""

    by: str | None
    at: float | None


class Pauses:
    """The subscribers that are paused, each a document of the journal by its key.

    A pause of a subscriber that is not loaded is kept: it holds when its plugin comes back. One that another node of
    the fleet notes holds here as soon as the journal tells of it.
    """

    def __init__(
        self, journal: JournalProtocol, dispatch: Dispatch, bus: Bus, *, reactor: Timers, now: Callable[[], float]
    ) -> None:
        """``now`` is the wall clock."""
        self._journal = journal
        self._dispatch = dispatch
        self._bus = bus
        self._now = now
        self._lock = DeferredLock()
        self._paused: dict[str, Pause] = {}
        self._unread: str | None = None  # why it is not known which are paused
        self._followed = FollowedDocuments(
            journal,
            COLLECTION,
            self._follow,
            known=lambda: self._paused,
            reactor=reactor,
            lock=self._lock,
            on_trouble=dispatch.doubt_pauses,
        )

    async def stop(self) -> None:
        """Follow no other node any more."""
        await self._followed.stop()

    def load(self) -> None:
        """Pause the queues of the subscribers that were paused, before anything is handed to them. Blocks.

        A damaged document is a pause all the same: of whom and since when is lost.
        Raises JournalError where the journal cannot be read, and so has nothing to hand on either.
        """
        try:
            documents = self._journal.documents_now(COLLECTION)
        except JournalError as problem:
            self._unread = str(problem)
            raise
        self._unread = None
        for key, document in documents.items():
            pause = _decoded(document)
            since = "" if pause.at is None else f" since {rfc3339(pause.at)}"
            self._hold(key, pause, f"paused{since}, {_of_whom(pause)}: its events wait until it is resumed")

    def paused(self) -> Mapping[str, Pause]:
        """Return the subscribers that are paused, by their keys."""
        return self._paused

    def states(self) -> Mapping[str, bool]:
        """Return of each subscriber whether it is paused, by its name for people; of one not loaded only if it is."""
        return {self._bus.display(key): key in self._paused for key in (*self._dispatch.queues(), *self._paused)}

    async def pause(self, key: str, by: str) -> None:
        """Begin no more events of a subscriber; what it has in hand goes on. Once it returns, a restart keeps it.

        Raises JournalError where that cannot be written down, or where the journal could not be read yet, and changes
        nothing.
        """
        await self._lock.run(self._pause, key, by)

    async def resume(self, key: str, by: str) -> None:
        """Hand a subscriber its events again, those that waited first. Raises JournalError, and changes nothing."""
        await self._lock.run(self._resume, key, by)

    async def _pause(self, key: str, by: str) -> None:
        self._check_read()
        if key in self._paused:
            return
        pause = Pause(by, self._now())
        await self._journal.put(COLLECTION, {key: msgspec.json.encode(pause)})
        self._hold(key, pause, f"paused by {by}: its events wait until it is resumed")

    async def _resume(self, key: str, by: str) -> None:
        self._check_read()
        if key not in self._paused:
            return
        await self._journal.put(COLLECTION, {key: None})
        self._release(key, f"resumed by {by}")

    def _check_read(self) -> None:
        """Raise JournalError while the pauses of the last process are not read: they would undo what is done now."""
        if self._unread is not None:
            raise JournalError(
                f"nothing can be paused or resumed before it is known which handlers are paused: {self._unread}"
            )

    def _follow(self, changes: Mapping[str, bytes | None]) -> None:
        """Do here what a person had another node do."""
        for key, document in changes.items():
            if document is None and key in self._paused:
                self._release(key, "resumed at another node")
            elif document is not None and key not in self._paused:
                pause = _decoded(document)
                self._hold(key, pause, f"paused at another node {_of_whom(pause)}: its events wait until it is resumed")

    def _hold(self, key: str, pause: Pause, reason: str) -> None:
        self._paused[key] = pause
        if key in self._dispatch.queues():
            self._dispatch.queues()[key].hold("paused")
        self._tell(key, reason)

    def _release(self, key: str, reason: str) -> None:
        del self._paused[key]
        if key in self._dispatch.queues():
            self._dispatch.resume(key)
        self._tell(key, reason)

    def _tell(self, key: str, reason: str) -> None:
        self._bus.observe(Occurrence(name="notice", subscriber=self._bus.display(key), reason=reason))


def _of_whom(pause: Pause) -> str:
    return "by whom and since when cannot be read" if pause.at is None else f"by {pause.by}"


def _decoded(document: bytes) -> Pause:
    try:
        return msgspec.json.decode(document, type=Pause)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Pause(None, None)
