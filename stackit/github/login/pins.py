"""The ids of the logins that the configuration names: a login may be given up, and taken by somebody else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from stackit.api.reactor import Timers
from stackit.journal import JournalProtocol
from stackit.journal.followed import FollowedDocuments

COLLECTION = "login-ids"


class Pins:
    """The id that each login of the configuration had when it was first seen, kept in the journal.

    The first node of a fleet that sees a login remembers its id for all.
    """

    def __init__(self, journal: JournalProtocol, reactor: Timers) -> None:
        self._journal = journal
        self._ids: dict[str, int] = {}
        self._is_loaded = False
        self._followed = FollowedDocuments(
            journal, COLLECTION, self._take, known=lambda: list(self._ids), reactor=reactor
        )

    async def stop(self) -> None:
        """Follow other nodes no more."""
        await self._followed.stop()

    def _take(self, documents: Mapping[str, bytes | None]) -> None:
        for key, document in documents.items():
            self._ids.pop(key, None)
            if document is not None and document.isdigit():
                self._ids[key] = int(document)

    async def _load(self) -> None:
        """Read the ids when they are first asked for: a start goes on whatever becomes of the journal."""
        if not self._is_loaded:
            await self._followed.read()
            self._is_loaded = True

    async def get(self, login: str) -> int | None:
        """Return the id of a login, in any letter case; None for one that was not seen yet. Raises JournalError."""
        await self._load()
        return self._ids.get(login.lower())

    async def pin(self, login: str, user_id: int) -> int:
        """Remember the id of a login, unless another node has remembered one by now; return the one that counts.

        Raises JournalError where that cannot be written: then it is not remembered.
        """
        key = login.lower()
        self._take(await self._journal.documents(COLLECTION, [key]))
        if key not in self._ids:
            await self._journal.put(COLLECTION, {key: str(user_id).encode()})
            self._ids[key] = user_id
        return self._ids[key]

    async def keep(self, logins: Iterable[str]) -> None:
        """Forget all others. Raises JournalError."""
        await self._load()
        kept = {each.lower() for each in logins}
        gone = [each for each in self._ids if each not in kept]
        if gone:
            await self._journal.put(COLLECTION, dict.fromkeys(gone))
            for each in gone:
                self._ids.pop(each, None)
