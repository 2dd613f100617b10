"""The key by which a login that is under way is known again, at whichever node of a fleet the browser comes back."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from stackit.api.background import Background
from stackit.api.errors import JournalError
from stackit.api.nodes import Nodes
from stackit.api.reactor import Timers
from stackit.journal import JournalProtocol
from stackit.journal.followed import FollowedDocuments

COLLECTION = "login-key"
_KEY = "key"
_BYTES = 32


class LoginKey:
    """A random ``value``. A fleet has one that its leader has made, in the journal; without one, it is this start's."""

    def __init__(self, journal: JournalProtocol, nodes: Nodes, reactor: Timers) -> None:
        self.value = secrets.token_bytes(_BYTES)
        self._journal = journal
        self._nodes = nodes
        self._is_common = False
        self._background = Background()
        self._followed = FollowedDocuments(journal, COLLECTION, self._take, known=tuple, reactor=reactor)
        nodes.when_changed(self._begin)

    def start(self) -> None:
        """Take the key of the fleet."""
        self._begin()

    async def stop(self) -> None:
        """Follow no more."""
        await self._followed.stop()
        await self._background.stop()

    def _begin(self) -> None:
        if self._nodes.here and not self._is_common:
            self._background.run(self._share())

    async def _share(self) -> None:
        try:
            await self._followed.read()
            if not self._is_common and self._nodes.leads():
                await self._journal.put(COLLECTION, {_KEY: self.value})
                self._is_common = True
        except JournalError:  # the journal tells of it; a change of the nodes comes when it is back
            return

    def _take(self, documents: Mapping[str, bytes | None]) -> None:
        value = documents.get(_KEY)
        if value is not None and len(value) == _BYTES:
            self.value = value
            self._is_common = True
