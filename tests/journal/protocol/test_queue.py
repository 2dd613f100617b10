"""The queue: handlings are due in order, retried, done or dead, and replayed."""

from __future__ import annotations

import msgspec
import pytest
import pytest_twisted
from journal_values import alone, append_together, new_delivery, together
from outcomes import outcome

from stackit.journal import EventId, JournalProtocol


@pytest_twisted.ensureDeferred
async def test_handlings_are_due_in_the_order_they_came_and_no_more_than_asked_for(journal: JournalProtocol) -> None:
    works = alone([(await outcome(journal.append, new_delivery(str(number)))).handlings[0] for number in range(5)])
    page = await journal.due("mirror", 100.0, group="octo/widget", limit=2)
    assert page == works[:2]
    assert await journal.due("mirror", 100.0, group="octo/widget", limit=9) == works
    assert await journal.due("mirror", -1e6, group="octo/widget", limit=9) == []


@pytest_twisted.ensureDeferred
async def test_work_is_due_by_group_and_groups_by_how_long_they_wait(journal: JournalProtocol) -> None:
    one = (await outcome(journal.append, new_delivery("1", repo="z/late"))).handlings[0]
    two = (await outcome(journal.append, new_delivery("2", repo="a/soon"))).handlings[0]
    three = (await outcome(journal.append, new_delivery("3", repo="Z/Late"))).handlings[0]
    await outcome(journal.append, new_delivery("4", repo=None, received_at=1e6))
    assert await journal.due_groups("mirror", now=100.0) == ["z/late", "a/soon"]
    assert await journal.due("mirror", 100.0, group="z/late", limit=9) == alone([one, three])
    assert await journal.due("mirror", 100.0, group="a/soon", limit=9) == [two]
    assert await journal.due_groups("mirror", now=1e6) == ["z/late", "a/soon", ""]


@pytest_twisted.ensureDeferred
async def test_a_failed_handling_is_due_again_at_its_time(journal: JournalProtocol) -> None:
    (work,) = (await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))).handlings
    await journal.fail(work.id, at=101.0, error="OSError: later\udcff", next_at=150.0)
    assert await journal.next_due("mirror") == 150.0
    assert await journal.next_due("mirror", after=150.0) is None
    assert await journal.due("mirror", 149.0, group="octo/widget", limit=9) == []
    assert await journal.due("mirror", 150.0, group="octo/widget", limit=9) == [
        msgspec.structs.replace(work, attempts=1)
    ]
    assert await journal.next_due("nobody") is None


@pytest_twisted.ensureDeferred
async def test_a_receipt_tells_what_each_subscriber_did_and_when_the_commit_was_visible(
    journal: JournalProtocol,
) -> None:
    appended = await outcome(journal.append, new_delivery("a"))
    mirror, notes = appended.handlings
    await outcome(journal.finish, mirror.id, at=101.0)
    await journal.fail(notes.id, at=102.0, error="ValueError: no", next_at=None)
    await journal.visible(appended.id, 103.0)
    await journal.visible(appended.id, 104.0)
    receipt = await journal.receipt(appended.id)
    assert receipt is not None
    assert (receipt.state, receipt.visible_at) == ("dead", 103.0)
    assert [msgspec.structs.astuple(handling) for handling in receipt.handlings] == [
        ("mirror", "done", 1, None, None, 101.0),
        ("notes:deploy", "dead", 1, "ValueError: no", None, 102.0),
    ]
    for text in ("", "x", "0", "-1", "٣", "9" * 30, f"0{appended.id}", f"{appended.id} "):
        assert await journal.receipt(EventId(text)) is None
        assert await journal.load(EventId(text)) is None
        assert not await journal.visible(EventId(text), 105.0)


@pytest_twisted.ensureDeferred
async def test_a_pending_handling_is_given_up_and_no_other(journal: JournalProtocol) -> None:
    appended = await outcome(journal.append, new_delivery("a"))
    mirror, notes = appended.handlings
    await journal.fail(notes.id, at=101.0, error="ValueError: no", next_at=150.0, traceback="where")
    assert await journal.give_up(appended.id, "notes:deploy", at=102.0, error="it ended the process")
    await outcome(journal.finish, mirror.id, at=103.0)
    for event, subscriber in ((appended.id, "notes:deploy"), (appended.id, "mirror"), (appended.id, "nobody")):
        assert not await journal.give_up(event, subscriber, at=104.0, error="again")
    assert not await journal.give_up(EventId("12345"), "mirror", at=104.0, error="again")
    receipt = await journal.receipt(appended.id)
    assert receipt is not None
    assert [msgspec.structs.astuple(handling) for handling in receipt.handlings] == [
        ("mirror", "done", 1, None, None, 103.0),
        ("notes:deploy", "dead", 2, "it ended the process", None, 102.0),
    ]
    assert await journal.tracebacks(appended.id) == {}
    assert await journal.pending() == {}
    (replayed,) = await journal.replay_dead("notes:deploy", now=200.0)
    assert (replayed.event_id, replayed.attempts) == (appended.id, 0)


@pytest_twisted.ensureDeferred
async def test_a_replay_runs_all_that_had_the_event_or_those_that_are_named(journal: JournalProtocol) -> None:
    appended = await outcome(journal.append, new_delivery("a"))
    for work in appended.handlings:
        await outcome(journal.finish, work.id, at=101.0)
    assert await journal.replay(appended.id, None, now=300.0) == list(appended.handlings)
    named = await journal.replay(appended.id, ["fresh", "mirror"], now=400.0)
    assert [work.subscriber for work in named] == ["fresh", "mirror"]
    assert await journal.due("fresh", 400.0, group="octo/widget", limit=9) == [named[0]]
    assert await journal.pending() == {"fresh": 1, "mirror": 1, "notes:deploy": 1}


@pytest_twisted.ensureDeferred
async def test_a_replay_needs_an_event_and_its_body(journal: JournalProtocol) -> None:
    unhandled = await outcome(journal.append, new_delivery("a", subscribers=()))
    with pytest.raises(LookupError):
        await journal.replay(EventId("12345"), None, now=1.0)
    with pytest.raises(ValueError, match="not kept"):
        await journal.replay(unhandled.id, ["mirror"], now=1.0)
    assert journal.problems() == []


@pytest_twisted.ensureDeferred
async def test_all_dead_letters_of_one_subscriber_are_replayed_together(
    journal: JournalProtocol,
) -> None:
    many = 1100  # more than any journal does in one transaction
    appended = await append_together(journal, *(new_delivery(str(number)) for number in range(many)))
    works = alone(each.handlings[0] for each in appended)
    dead = [handling for each in appended for handling in each.handlings]
    await together(*(journal.fail(each.id, at=101.0, error="no", next_at=None) for each in dead))
    assert alone(await journal.replay_dead("mirror", now=500.0)) == works
    assert await journal.replay_dead("mirror", now=500.0) == []
    assert await journal.pending() == {"mirror": many}
