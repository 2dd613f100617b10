"""The observer that keeps the last hour, and its document in the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed

from stackit.api.errors import JournalError
from stackit.api.hookimpl import hookimpl
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Timers, looping_call
from stackit.history.minutes import Minute, Minutes, summed
from stackit.journal.followed import FollowedDocuments, WatchedJournal

COLLECTION = "history"
_KEY = "minutes"
_INTERVAL = 60.0
"""Seconds between two times at which the last hour is written down."""
_SHARED_INTERVAL = 5.0
"""The same where other nodes show it, too."""


class HistoryJournal(WatchedJournal, Protocol):
    """The part of the journal that keeps the last hour."""

    def put(self, collection: str, documents: Mapping[str, bytes | None]) -> Awaitable[None]:
        """Keep documents by their key; None deletes one."""

    def documents_now(self, collection: str) -> dict[str, bytes]:
        """Return the documents of a collection by their keys. Blocks."""


class History(Service):
    """The last hour: an observer of deliveries, and of pushes that become visible.

    Each node of a fleet keeps its own, and shows the sum of all. It is written to the journal once a minute (of a fleet
    more often) and at the stop, so that a restart continues it. What a crash loses is at most the last minute.
    """

    def __init__(self, journal: HistoryJournal, *, reactor: Timers, now: Callable[[], float], node: str = "") -> None:
        """``now`` is the wall clock, ``node`` the name of this node, "" without a fleet."""
        self._key = f"{_KEY}:{node}" if node else _KEY
        self._interval = _SHARED_INTERVAL if node else _INTERVAL
        self._others: dict[str, list[Minute]] = {}
        self._journal = journal
        self._now = now
        self._minutes = Minutes()
        self._written = b""
        self._followed = FollowedDocuments(
            journal, COLLECTION, self._follow, known=lambda: list(self._others), reactor=reactor
        )
        self._loop = looping_call(reactor, lambda: Deferred.fromCoroutine(self._write()))

    def load(self) -> None:
        """Continue what the last process wrote down. Blocks; where it is damaged, the hour begins anew.

        Raises JournalError.
        """
        for key, document in self._journal.documents_now(COLLECTION).items():
            if key == self._key:
                self._minutes = Minutes(_decoded(document))
            else:
                self._follow({key: document})

    def _follow(self, documents: Mapping[str, bytes | None]) -> None:
        """Take what other nodes have counted."""
        for key, document in documents.items():
            if key != self._key:
                self._others[key] = [] if document is None else _decoded(document)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        """Count a delivery, or a push that is visible."""
        if occurrence.name == "accepted":
            self._minutes.delivery(self._now())
        elif occurrence.name == "visible" and occurrence.seconds is not None:
            self._minutes.visible(self._now(), occurrence.seconds)

    def last(self) -> list[Minute]:
        """Return the minutes of the last hour, oldest first, summed over the nodes."""
        now = self._now()
        own = self._minutes.last(now)
        if not self._others:
            return own
        shown = {each.number for each in own}
        others = [[each for each in minutes if each.number in shown] for minutes in self._others.values()]
        return summed([own, *others])

    def startService(self) -> None:
        Service.startService(self)
        self._loop.start(self._interval, now=False)

    def stopService(self) -> Deferred[None]:
        """Write the last minute down, too."""
        was_running = self.running
        Service.stopService(self)
        if not was_running:
            return succeed(None)
        if self._loop.running:
            self._loop.stop()
        return Deferred.fromCoroutine(self._end())

    async def _end(self) -> None:
        await self._followed.stop()
        await self._write()

    async def _write(self) -> None:
        document = msgspec.json.encode(self._minutes.kept(self._now()))
        if document == self._written:
            return
        try:
            await self._journal.put(COLLECTION, {self._key: document, **self._forgotten()})
        except JournalError:
            return  # the journal has said why; the next minute has this one, too
        self._written = document

    def _forgotten(self) -> dict[str, None]:
        """Forget nodes of which there is nothing in the last hour; return their keys, for the journal to do so, too."""
        first = self._minutes.last(self._now())[0].number
        gone = [key for key, minutes in self._others.items() if all(each.number < first for each in minutes)]
        for key in gone:
            del self._others[key]
        return dict.fromkeys(gone)


def _decoded(document: bytes) -> list[Minute]:
    """Return the minutes of a document; none of one that is damaged."""
    try:
        return msgspec.json.decode(document, type=list[Minute])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
