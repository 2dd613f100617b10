"""The list of deliveries: filters, pages, and what age takes from it."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from journal_values import ONE, ZEROS, new_delivery
from outcomes import outcome

from stackit.api.events import RefChange
from stackit.journal import EventId, JournalProtocol


@pytest_twisted.ensureDeferred
async def test_a_listing_is_newest_first_and_paged_by_its_cursor(journal: JournalProtocol) -> None:
    ids = [(await outcome(journal.append, new_delivery(str(number)))).id for number in range(5)]
    first = await journal.listing(limit=2)
    await outcome(journal.append, new_delivery("meanwhile"))
    second = await journal.listing(limit=2, cursor=first.next)
    third = await journal.listing(limit=2, cursor=second.next)
    listed = [receipt.id for page in (first, second, third) for receipt in page.deliveries]
    assert (listed, third.next) == (ids[::-1], None)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "٣", "9" * 30, "1 OR 1"])
@pytest_twisted.ensureDeferred
async def test_a_cursor_that_no_page_gave_out_is_a_value_error(journal: JournalProtocol, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await journal.listing(cursor=cursor)


@pytest_twisted.ensureDeferred
async def test_a_listing_can_be_filtered_by_everything_at_once_or_alone(journal: JournalProtocol) -> None:
    done = await outcome(journal.append, new_delivery("done", repo="a/b"))
    dead = await outcome(journal.append, new_delivery("dead", event="issues", action="opened"))
    mixed = await outcome(journal.append, new_delivery("mixed"))
    unhandled = await outcome(journal.append, new_delivery("unhandled", subscribers=(), repo=None))
    change = RefChange("refs/heads/main", ZEROS, ONE, "created")
    refs = await journal.announce("a/b", [change], "push", "done", 100.0, ["late"])
    for work in (*done.handlings, dead.handlings[0], mixed.handlings[0]):
        await outcome(journal.finish, work.id, at=101.0)
    await journal.fail(dead.handlings[1].id, at=101.0, error="no", next_at=None)
    both = await outcome(journal.append, new_delivery("both"))  # dead at one, pending at the other
    await journal.fail(both.handlings[0].id, at=101.0, error="no", next_at=None)

    expected: list[tuple[dict[str, Any], list[EventId]]] = [
        ({}, [both.id, unhandled.id, mixed.id, dead.id, done.id]),
        ({"delivery": "dead"}, [dead.id]),
        ({"delivery": "nothing"}, []),
        ({"event": "issues"}, [dead.id]),
        ({"event": "refs_changed"}, [refs.id]),
        ({"event": "refs_changed", "repo": "A/B", "state": "pending"}, [refs.id]),
        ({"repo": "A/B"}, [done.id]),
        ({"state": "pending"}, [both.id, mixed.id]),
        ({"state": "dead"}, [both.id, dead.id]),
        ({"state": "done"}, [unhandled.id, mixed.id, dead.id, done.id]),
        ({"subscriber": "mirror"}, [both.id, mixed.id, dead.id, done.id]),
        ({"subscriber": "nobody"}, []),
        ({"subscriber": "mirror", "state": "done"}, [mixed.id, dead.id, done.id]),
        ({"subscriber": "mirror", "state": "dead"}, [both.id]),
        ({"subscriber": "notes:deploy", "state": "pending"}, [both.id, mixed.id]),
        ({"event": "push", "repo": "octo/widget", "state": "pending", "delivery": "mixed"}, [mixed.id]),
    ]
    for filters, ids in expected:
        page = await journal.listing(**filters)
        assert [receipt.id for receipt in page.deliveries] == ids, filters
        paged, cursor = [], None
        while True:
            page = await journal.listing(**filters, cursor=cursor, limit=1)
            paged += [receipt.id for receipt in page.deliveries]
            cursor = page.next
            if cursor is None:
                break
        assert paged == ids, filters
    with pytest.raises(ValueError, match="state"):
        await journal.listing(state="lost")


@pytest_twisted.ensureDeferred
async def test_a_listing_is_bounded_by_the_time_of_receipt(journal: JournalProtocol) -> None:
    times = (100.0, 99.5, 101.0, 102.5)  # a clock may be set back
    ids = [(await outcome(journal.append, new_delivery(str(at), received_at=at))).id for at in times]
    expected: list[tuple[dict[str, Any], list[EventId]]] = [
        ({"since": 100.0}, [ids[3], ids[2], ids[0]]),
        ({"until": 100.0}, [ids[1]]),
        ({"since": 99.5, "until": 102.5}, [ids[2], ids[1], ids[0]]),
        ({"since": 102.6}, []),
        ({"since": 101.0, "until": 101.0}, []),
    ]
    for bounds, found in expected:
        page = await journal.listing(**bounds)
        assert [receipt.id for receipt in page.deliveries] == found, bounds
    assert [each.id for each in (await journal.listing(since=100.0, state="pending", limit=1)).deliveries] == [ids[3]]
    assert (await journal.listing(since=100.0, event="refs_changed")).deliveries == []


@pytest_twisted.ensureDeferred
async def test_dead_handlings_are_counted_by_subscriber_and_every_subscriber_is_known(journal: JournalProtocol) -> None:
    assert (await journal.dead(), await journal.subscribers()) == ({}, set())
    first = await outcome(journal.append, new_delivery("first", subscribers=("mirror", "notes")))
    second = await outcome(journal.append, new_delivery("second", subscribers=("mirror", "gone")))
    await outcome(journal.finish, second.handlings[1].id, at=101.0)
    for handling in (first.handlings[0], second.handlings[0], first.handlings[1]):
        await journal.fail(handling.id, at=101.0, error="no", next_at=None)
    assert await journal.dead() == {"mirror": 2, "notes": 1}
    assert await journal.subscribers() == {"mirror", "notes", "gone"}
    await journal.replay_dead("mirror", now=102.0)
    assert await journal.dead() == {"notes": 1}


@pytest_twisted.ensureDeferred
async def test_what_is_too_old_goes_but_never_what_is_pending(journal: JournalProtocol) -> None:
    week = 7 * 86400
    old = await outcome(journal.append, new_delivery("old", subscribers=("mirror",)))
    waiting = await outcome(journal.append, new_delivery("waiting", subscribers=("mirror",)))
    dead = await outcome(journal.append, new_delivery("dead", subscribers=("mirror",)))
    young = await outcome(journal.append, new_delivery("young", subscribers=(), received_at=200.0))
    await outcome(journal.finish, old.handlings[0].id, at=101.0)
    await journal.fail(dead.handlings[0].id, at=101.0, error="no", next_at=None)
    assert await journal.prune(week + 100.0) == 0
    assert await journal.prune(week + 150.0) == 2
    assert await journal.prune(week + 150.0) == 0
    assert [receipt.id for receipt in (await journal.listing()).deliveries] == [young.id, waiting.id]
    assert await journal.load(old.id) is None
    assert (await outcome(journal.append, new_delivery("old", subscribers=("mirror",)))).status == "new"
