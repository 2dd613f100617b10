"""The journal, as far as the registry uses it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol


class Documents(Protocol):
    """The part of the journal that keeps the records."""

    async def rename(
        self, renames: Sequence[tuple[str, str]], collection: str, documents: Mapping[str, bytes | None]
    ) -> None:
        """Give announced refs to other keys, and put documents, in one transaction."""

    async def documents(self, collection: str, keys: Collection[str] | None = None) -> dict[str, bytes]:
        """Return the documents of a collection, or those with these keys."""

    def watch(self, collection: str, changed: Callable[[frozenset[str] | None], object]) -> None:
        """Call ``changed`` when another process changed documents: with their keys, or None for any."""

    def documents_now(self, collection: str) -> dict[str, bytes]:
        """Return the same, but block."""
