"""The number of bytes that a connection reads at once."""

from __future__ import annotations

from typing import Any

_SMALL = 2**14
"""Bytes to read at once: most deliveries are smaller, and room that they do not fill costs time, too."""

LARGE = 2**18
"""Bytes to read at once of a large body; each read costs as much as hashing 16 KB."""

_MOST_LARGE = 16
"""Connections that may read so much at once, at the same time: the others wait for all of them."""


class ReadSize:
    """The size of a transport's reads: small, but for a large body.

    ``large_head`` is the size of the head before the large body that is read now or was read last, 0 for none.
    ``large`` holds the connections of a site that read much at once, as their ReadSizes.
    """

    __slots__ = ("_large", "_transport", "large_head")

    def __init__(self, transport: Any, large: set[ReadSize]) -> None:
        self.large_head = 0
        self._transport = transport
        self._large = large
        transport.bufferSize = _SMALL

    def grow(self, head: int, body: int | None) -> None:
        """Read much at once if the body behind a head is large, and not too many others do."""
        if body is not None and body > _SMALL and len(self._large) < _MOST_LARGE:
            self._large.add(self)
            self._transport.bufferSize, self.large_head = LARGE, head

    def release(self) -> None:
        """Let another connection read much at once."""
        self._large.discard(self)

    def await_head(self) -> None:
        """Read a head like the last one, and no more: one large body may follow another, behind such a head."""
        self._transport.bufferSize = self.large_head

    def shrink(self) -> None:
        """Read little at once again."""
        self._transport.bufferSize, self.large_head = _SMALL, 0
