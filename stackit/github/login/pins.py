"""The ids of the logins that the configuration names: a login may be given up, and taken by somebody else."""

from __future__ import annotations

from collections.abc import Iterable

from stackit.journal import JournalProtocol

COLLECTION = "login-ids"


class Pins:
    """The id that each login of the configuration had when it was first seen, kept in the journal."""

    def __init__(self, journal: JournalProtocol) -> None:
        self._journal = journal
        self._read: dict[str, int] | None = None

    @property
    def _ids(self) -> dict[str, int]:
        """The ids by login. They are read when they are first asked for: a full disk keeps no start from going on."""
        if self._read is None:
            documents = self._journal.documents_now(COLLECTION)
            self._read = {key: int(document) for key, document in documents.items() if document.isdigit()}
        return self._read

    def get(self, login: str) -> int | None:
        """Return the id of a login, in any letter case; None for one that was not seen yet. Raises JournalError."""
        return self._ids.get(login.lower())

    async def pin(self, login: str, user_id: int) -> None:
        """Remember the id of a login. Raises JournalError where that cannot be written: then it is not remembered."""
        await self._journal.put(COLLECTION, {login.lower(): str(user_id).encode()})
        self._ids[login.lower()] = user_id

    async def keep(self, logins: Iterable[str]) -> None:
        """Forget all others. Raises JournalError."""
        kept = {each.lower() for each in logins}
        gone = [each for each in self._ids if each not in kept]
        if gone:
            await self._journal.put(COLLECTION, dict.fromkeys(gone))
            for each in gone:
                del self._ids[each]
