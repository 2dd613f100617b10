"""The outcome of reading a listing: what it showed, what it changed, and what was left undone for what reason."""

from __future__ import annotations

from typing import Literal

import msgspec

Change = Literal["none", "added", "changed", "moved", "removed", "held", "waiting"]
"""``none``: as it was. ``held``: it is mirrored on until a person accepts its removal. ``waiting``: another repository
still has its name. Of a dry run, the change that would be made.
"""


class RepoReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing says of one repository: whether it is mirrored, the rule or the reason, and the change."""

    name: str
    id: int
    mirrored: bool
    reason: str
    change: Change = "none"


class ListingReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of reading a listing once.

    ``problem`` is why it counts as incomplete, so that nothing was removed; None for one that is complete. ``held``
    is why the removal of repositories waits for a person. ``pages`` and ``listed`` count what was read.
    """

    listing: str
    pages: int = 0
    listed: int = 0
    problem: str | None = None
    retry_at: float | None = None
    held: str | None = None
    repos: tuple[RepoReport, ...] = ()
