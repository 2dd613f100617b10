"""The reasons for which a push is fetched in a slower way."""

from __future__ import annotations

from typing import Literal, get_args

Reason = Literal[
    # of the push or of the mirror
    "not_http",
    "head",
    "fetch",
    "left_out",
    "unsettled",
    "many_refs",
    "gone",
    "ref_lock",
    "pack",
    "unconnected",
    # of the remote, as a RemoteError has them
    "unreachable",
    "timeout",
    "protocol",
    "too_large",
    "not_git",
    "status",
    "refused",
]
"""Reasons for a slower way, fit for a metric's label."""

REASONS: frozenset[str] = frozenset(get_args(Reason))


class Fallback(Exception):
    """A push cannot be fetched in this way; the next slower one is tried.

    ``reason`` is one of ``REASONS``. ``needs_all_refs``: only a fetch of all refs
    will do, no fetch of the pushed ref alone.
    """

    def __init__(self, reason: str, *, needs_all_refs: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.needs_all_refs = needs_all_refs
