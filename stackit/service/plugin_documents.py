"""The small documents that plugins keep in the journal, apart from stackit's own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from stackit.journal import JournalProtocol

_OF_PLUGINS = "plugins/"
"""Begins the names of their collections in the journal."""


class PluginDocuments:
    """The documents as ``App`` offers them, where each method is described, in collections that plugins name."""

    def __init__(self, journal: JournalProtocol) -> None:
        self._journal = journal

    def read_now(self, collection: str) -> Mapping[str, bytes]:
        """Return all of them. Blocks. Raises JournalError."""
        return self._journal.documents_now(_OF_PLUGINS + collection)

    async def read(self, collection: str, keys: Collection[str] | None) -> Mapping[str, bytes]:
        """Return those with these keys, all for None. Raises JournalError."""
        return await self._journal.documents(_OF_PLUGINS + collection, keys)

    async def put(self, collection: str, documents: Mapping[str, bytes | None]) -> None:
        """Make them durable in place of what is there; None deletes one. Raises JournalError."""
        await self._journal.put(_OF_PLUGINS + collection, documents)

    def watch(self, collection: str, changed: Callable[[frozenset[str] | None], object]) -> None:
        """Have a function called when another node changed some: with their keys, None for any."""
        self._journal.watch(_OF_PLUGINS + collection, changed)
