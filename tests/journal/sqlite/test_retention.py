"""Retention while the clock was wrong for a time."""

from __future__ import annotations

import pytest_twisted
from journal_values import append_together, new_delivery

from stackit.journal.sqlite import SQLiteJournal

WEEK = 7 * 86400.0


async def kept(journal: SQLiteJournal, now: float) -> list[str | None]:
    """Prune until nothing is left to prune; return what is kept, oldest first."""
    while await journal.prune(now):
        pass
    return [each.delivery for each in (await journal.listing(limit=500)).deliveries][::-1]


@pytest_twisted.ensureDeferred
async def test_a_delivery_stamped_far_ahead_keeps_nothing_that_came_after_it(journal: SQLiteJournal) -> None:
    times = {"before": 100.0, "ahead": 1e9, **{f"after-{number}": 101.0 for number in range(150)}}
    times |= {"young": 300.0, "latest": 1e9}
    await append_together(journal, *(new_delivery(name, subscribers=(), received_at=at) for name, at in times.items()))
    assert await kept(journal, WEEK + 100.5) == [each for each in times if each != "before"]
    assert await kept(journal, WEEK + 200.0) == ["young", "latest"]
    # It goes when what came after it does, and never sooner: this one may have been received just now.
    assert await kept(journal, WEEK + 301.0) == ["latest"]
    await append_together(journal, new_delivery("later", subscribers=(), received_at=302.0))
    assert await kept(journal, WEEK + 301.0) == ["latest", "later"]
    assert await kept(journal, WEEK + 303.0) == []
