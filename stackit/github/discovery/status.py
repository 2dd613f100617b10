"""What people are shown of discovery: its listings, their troubles, and the repositories that were removed last."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from typing import Any

from stackit.github.discovery.source import Source
from stackit.registry import Record
from stackit.text.times import rfc3339

_MOST = 100


def status_of(sources: Iterable[Source]) -> list[dict[str, Any]]:
    """Return the sources and their listings, of plain values."""
    return [
        {
            "source": source.name,
            "problem": source.problem,
            "listings": [
                {
                    "listing": name,
                    "repositories": standing.report.listed,
                    "read_at": rfc3339(standing.read_at),
                    "complete_at": rfc3339(standing.succeeded_at),
                    "problem": standing.report.problem,
                    "held": standing.report.held,
                }
                for name, standing in source.standings.items()
            ],
        }
        for source in sources
    ]


def problems_of(sources: Iterable[Source]) -> list[str]:
    """Return what an operator has to know, a line each."""
    found: list[str] = []
    for source in sources:
        if source.problem is not None:
            reason = source.problem.removeprefix(f"{source.name}: ")
            found.append(f"{source.name}: its listings are not known: {reason}")
        for name, standing in source.standings.items():
            if standing.report.held is not None:
                found.append(standing.report.held)
            if standing.report.problem is not None:
                found.append(f"the listing of {name} is not complete: {standing.report.problem}")
    return found


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
