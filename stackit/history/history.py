"""The observer that keeps the last hour, and its document in the journal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec
from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall

from stackit.api.errors import JournalError
from stackit.api.hookimpl import hookimpl
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Timers
from stackit.history.minutes import Minute, Minutes

COLLECTION = "history"
_KEY = "minutes"
_INTERVAL = 60.0
"""Seconds between two times at which the last hour is written down."""


class HistoryJournal(Protocol):
    """The part of the journal that keeps the last hour."""

    def put(self, collection: str, documents: Mapping[str, bytes | None]) -> Awaitable[None]:
        """Keep documents by their key; None deletes one."""

    def documents_now(self, collection: str) -> dict[str, bytes]:
        """Return the documents of a collection by their keys. Blocks."""


class History(Service):
    """The last hour: an observer of deliveries, and of pushes that become visible.

    It is written to the journal once a minute and at the stop, so that a restart continues it. What a crash loses is at
    most the last minute.
    """

    def __init__(self, journal: HistoryJournal, *, reactor: Timers, now: Callable[[], float]) -> None:
        """``now`` is the wall clock."""
        self._journal = journal
        self._now = now
        self._minutes = Minutes()
        self._written = b""
        self._loop = LoopingCall(lambda: Deferred.fromCoroutine(self._write()))
        self._loop.clock = reactor  # type: ignore[assignment]  # Twisted asks for a zope interface

    def load(self) -> None:
        """Continue what the last process wrote down. Blocks; where it is damaged, the hour begins anew.

        Raises JournalError.
        """
        document = self._journal.documents_now(COLLECTION).get(_KEY)
        try:
            kept = [] if document is None else msgspec.json.decode(document, type=list[Minute])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self._minutes = Minutes(kept)

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        """Count a delivery, or a push that is visible."""
        if occurrence.name == "accepted":
            self._minutes.delivery(self._now())
        elif occurrence.name == "visible" and occurrence.seconds is not None:
            self._minutes.visible(self._now(), occurrence.seconds)

    def last(self) -> list[Minute]:
        """Return the minutes of the last hour, oldest first."""
        return self._minutes.last(self._now())

    def startService(self) -> None:
        Service.startService(self)
        self._loop.start(_INTERVAL, now=False)

    def stopService(self) -> Deferred[None]:
        """Write the last minute down, too."""
        was_running = self.running
        Service.stopService(self)
        if not was_running:
            return succeed(None)
        if self._loop.running:
            self._loop.stop()
        return Deferred.fromCoroutine(self._write())

    async def _write(self) -> None:
        document = msgspec.json.encode(self._minutes.kept(self._now()))
        if document == self._written:
            return
        try:
            await self._journal.put(COLLECTION, {_KEY: document})
        except JournalError:
            return  # the journal has said why; the next minute has this one, too
        self._written = document
