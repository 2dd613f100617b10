"""The settings of the mirror that a sync needs."""

from __future__ import annotations

from typing import Protocol


class SyncSettings(Protocol):
    """``MirrorSettings`` has all of these; see docs/configuration.md."""

    @property
    def timeout(self) -> float:
        """Seconds that a fetch may take."""

    @property
    def debounce(self) -> float:
        """Seconds without a further push before a push is fetched."""

    @property
    def max_deletions(self) -> float:
        """The share of a mirror's refs, from 0 to 1, that may be deleted at once without a person."""

    @property
    def min_refs(self) -> int:
        """The refs from which on ``max_deletions`` counts."""
