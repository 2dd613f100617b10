"""The repositories that the forge has just shown under their names: the leader sees it, and every node has to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from stackit.api.background import Background
from stackit.api.errors import JournalError
from stackit.api.reactor import Timers
from stackit.journal.followed import FollowedDocuments
from stackit.registry.documents import Documents

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

COLLECTION = "repos-shown"
GATHER = 1.0
"""Seconds in which what was shown gathers: a page of a listing has a hundred repositories."""
KEPT = 120.0
"""Seconds after which a document is of no use any more."""

Shown = tuple[str, str]
"""An identity, and the key of the name under which the forge has shown the repository."""


class ShownRepositories:
    """Tells the other nodes. ``take`` is given what another one has seen, and how many seconds ago.

    ``now`` is the wall clock of all nodes.
    """

    def __init__(
        self,
        journal: Documents,
        take: Callable[[Shown, float], object],
        *,
        reactor: Timers,
        now: Callable[[], float],
    ) -> None:
        self._journal = journal
        self._take = take
        self._reactor = reactor
        self._now = now
        self._to_tell: dict[Shown, None] = {}
        self._kept: set[str] | None = None  # keys of documents; None while they were not read
        self._timer: DelayedCall | None = None
        self._background = Background()
        self._followed = FollowedDocuments(journal, COLLECTION, self._hear, known=tuple, reactor=reactor)

    def tell(self, identity: str, key: str) -> None:
        """Have the other nodes told soon."""
        self._to_tell[identity, key] = None
        if self._timer is None:
            self._timer = self._reactor.callLater(GATHER, self._begin)

    async def stop(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._followed.stop()
        await self._background.stop()

    def _begin(self) -> None:
        self._timer = None
        self._background.run(self._write())

    async def _write(self) -> None:
        shown, self._to_tell = list(self._to_tell), {}
        try:
            if self._kept is None:
                self._kept = set(await self._journal.documents(COLLECTION))
            now = self._now()
            old = {key for key in self._kept if not _is_recent(key, now)}
            key = f"{now:.6f}"
            # Refused where another node leads by now.
            await self._journal.rename((), COLLECTION, {**dict.fromkeys(old), key: msgspec.json.encode(shown)})
        except JournalError:  # the journal tells of it; the forge shows them again
            return
        self._kept = (self._kept - old) | {key}

    def _hear(self, documents: Mapping[str, bytes | None]) -> None:
        for key, document in documents.items():
            if document is None:
                continue
            if self._kept is not None:
                self._kept.add(key)
            if not _is_recent(key, self._now()):
                continue
            try:
                shown = msgspec.json.decode(document, type=list[Shown])
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            for each in shown:
                self._take(each, max(0.0, self._now() - float(key)))


def _is_recent(key: str, now: float) -> bool:
    try:
        return abs(now - float(key)) < KEPT
    except ValueError:
        return False
