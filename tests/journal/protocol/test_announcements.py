"""Announcements: refs and the event that says so, in one transaction."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from journal_values import ONE, TWO, ZEROS, alone, new_delivery
from outcomes import outcome
from twisted.internet.defer import Deferred

from stackit.api.errors import JournalError
from stackit.api.events import RefChange
from stackit.journal import JournalProtocol, decode_changes


@pytest_twisted.ensureDeferred
async def test_announced_refs_move_together_with_the_event_that_says_so(journal: JournalProtocol) -> None:
    odd = b"refs/heads/\xff".decode("utf-8", "surrogateescape")
    created = (RefChange("refs/heads/main", ZEROS, ONE, "created"), RefChange(odd, ZEROS, ONE, "created"))
    first = await journal.announce("Octo/Widget", created, "push", "guid", 100.0, ["notes"])
    assert await journal.announced("octo/widget") == {"refs/heads/main": ONE, odd: ONE}
    moved = (
        RefChange("refs/heads/main", ONE, TWO, "updated", forced=True),
        RefChange(odd, ONE, ZEROS, "deleted"),
    )
    second = await journal.announce("octo/widget", moved, "backstop", None, 110.0, ["notes"])
    assert await journal.announced("octo/widget") == {"refs/heads/main": TWO}
    assert await journal.announced("octo/other") == {}
    assert await journal.due("notes", 110.0, group="octo/widget", limit=9) == alone(
        [*first.handlings, *second.handlings]
    )

    stored = await journal.load(first.id)
    assert stored is not None
    change = decode_changes(stored)
    assert (change.changes, change.cause, change.delivery, str(change.repo)) == (created, "push", "guid", "Octo/Widget")
    assert (change.id, change.received_at) == (first.id, 100.0)


@pytest_twisted.ensureDeferred
async def test_an_announcement_that_nothing_handles_can_be_looked_at_unless_it_is_large(
    journal: JournalProtocol,
) -> None:
    small = (RefChange("refs/heads/main", ZEROS, ONE, "created"),)
    large = tuple(RefChange(f"refs/heads/{number}", ZEROS, ONE, "created") for number in range(1000))
    kept, dropped = [await journal.announce("octo/widget", each, "push", None, 100.0, []) for each in (small, large)]
    found, gone = await journal.load(kept.id), await journal.load(dropped.id)
    assert found is not None
    assert decode_changes(found).changes == small
    assert gone is not None
    assert gone.body is None


@pytest_twisted.ensureDeferred
async def test_an_announcement_that_cannot_be_written_moves_no_ref_and_harms_no_neighbour(
    journal: JournalProtocol,
) -> None:

    no_text: Any = object()
    broken = [RefChange("refs/heads/main", ZEROS, ONE, "created"), RefChange("refs/x", ZEROS, no_text, "created")]
    before = Deferred.fromCoroutine(outcome(journal.append, new_delivery("a")))
    failing = Deferred.fromCoroutine(journal.announce("octo/widget", broken, "push", None, 100.0, ["notes"]))
    after = Deferred.fromCoroutine(outcome(journal.append, new_delivery("b")))
    with pytest.raises(JournalError, match="refused"):
        await failing
    assert [(await before).status, (await after).status] == ["new", "new"]
    assert await journal.announced("octo/widget") == {}
    assert journal.problems() == []
