"""The repositories that discovery removed, for people who look for one."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest

from stackit.registry import Record
from stackit.text.times import rfc3339

_MOST = 100


def removed_last(records: Iterable[Record]) -> list[dict[str, object]]:
    """Return the repositories that were removed last, the newest first, each with the reason."""
    removed = (each for each in records if each.source == "discover" and not each.is_managed)
    return [
        {
            "name": str(each.repo),
            "id": each.id,
            "reason": each.reason,
            "removed_at": rfc3339(each.removed_at or 0.0),
        }
        for each in nlargest(_MOST, removed, key=lambda each: each.removed_at or 0.0)
    ]
