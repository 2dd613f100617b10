"""Why a push has to be fetched in a slower way."""

from __future__ import annotations


class Fallback(Exception):
    """A push cannot be fetched in this way; the next slower one is tried.

    ``reason`` is from a small closed set, fit for a metric's label. ``needs_all_refs``: only a fetch of all refs
    will do, no fetch of the pushed ref alone.
    """

    def __init__(self, reason: str, *, needs_all_refs: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.needs_all_refs = needs_all_refs
