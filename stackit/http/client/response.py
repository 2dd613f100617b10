"""The response of a remote."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Response(msgspec.Struct, frozen=True):
    """A response that came to its end.

    ``headers`` have lower-case names, and every value that came. ``body`` is empty where it was larger than the request
    allowed (``too_large``), and where it belongs to an error and is larger than 64 KiB or has no certain end.
    """

    status: int
    headers: Mapping[bytes, tuple[bytes, ...]]
    body: bytes
    too_large: bool = False

    def header(self, name: str) -> str | None:
        """Return the first value of a header, whose name may be in any case; None where it did not come."""
        values = self.headers.get(name.lower().encode("latin-1"))
        return None if values is None else values[0].decode("latin-1")
