"""Many writes at once: their order, and that each succeeds or fails by itself."""

from __future__ import annotations

import pytest_twisted
from journal_values import BODY, new_delivery, together
from outcomes import outcome

from stackit.journal import JournalProtocol


@pytest_twisted.ensureDeferred
async def test_deliveries_of_one_commit_are_told_apart_as_those_of_many_are(journal: JournalProtocol) -> None:
    records = [
        new_delivery("a"),
        new_delivery("b", subscribers=()),
        new_delivery("a"),  # the same again
        new_delivery("c", body=BODY + b"a"),  # the body of the first
        new_delivery("a", hook="8"),  # its id, and its body, from another hook
        new_delivery("d", repo=None),
        *(new_delivery(f"more-{number}") for number in range(150)),
        new_delivery("more-149"),
    ]
    answers = [answer for _, answer in await together(*(outcome(journal.append, each) for each in records))]
    assert [(each.status, each.replay_of) for each in answers[:6]] == [
        ("new", None),
        ("new", None),
        ("duplicate", None),
        ("new", "a"),
        ("new", None),
        ("new", None),
    ]
    assert answers[0].id == answers[2].id
    assert (answers[-1].status, answers[-1].id) == ("duplicate", answers[-2].id)
    ids = [each.id for each in answers if each.status == "new"]
    assert [each.id for each in (await journal.listing(limit=500)).deliveries] == ids[::-1]
    for asked, answer in zip(records, answers, strict=True):
        stored = await journal.load(answer.id)
        assert stored is not None
        assert (stored.delivery, stored.hook) == (asked.delivery, asked.hook)
        assert stored.body == (asked.body if asked.subscribers else None)
        if answer.status == "new":
            assert [(work.event_id, work.subscriber) for work in answer.handlings] == [
                (answer.id, subscriber) for subscriber in asked.subscribers
            ]
    works = await journal.due("mirror", 200.0, group="octo/widget", limit=500)
    assert [work.event_id for work in works] == [
        answer.id
        for asked, answer in zip(records, answers, strict=True)
        if answer.status == "new" and answer.handlings and asked.repo
    ]
    assert len(await journal.due("mirror", 200.0, group="", limit=500)) == 1


@pytest_twisted.ensureDeferred
async def test_what_is_handled_while_others_arrive_is_done_and_they_are_not(journal: JournalProtocol) -> None:
    first = await together(
        *(outcome(journal.append, new_delivery(f"first-{number}", subscribers=("mirror",))) for number in range(5))
    )
    works = [work for _, appended in first for work in appended.handlings]
    await together(
        outcome(journal.finish, works[0].id, at=101.0),
        outcome(journal.append, new_delivery("second", subscribers=("mirror",))),
        outcome(journal.finish, works[1].id, at=102.0),
        journal.fail(works[2].id, at=103.0, error="no", next_at=None),
        outcome(journal.finish, works[3].id, at=104.0),
    )
    receipts = [await journal.receipt(work.event_id) for work in works]
    states = [(each.state, each.handlings[0].attempts, each.handlings[0].finished_at) for each in receipts if each]
    assert states == [
        ("done", 1, 101.0),
        ("done", 1, 102.0),
        ("dead", 1, 103.0),
        ("done", 1, 104.0),
        ("pending", 0, None),
    ]
    assert await journal.pending() == {"mirror": 2}


@pytest_twisted.ensureDeferred
async def test_a_count_of_what_is_pending_stands_where_it_was_asked_for(journal: JournalProtocol) -> None:
    appends = [outcome(journal.append, new_delivery(str(number), subscribers=("mirror",))) for number in range(4)]
    answers = await together(appends[0], appends[1], journal.pending(), appends[2], appends[3])
    assert answers[2] == (True, {"mirror": 2})


@pytest_twisted.ensureDeferred
async def test_a_record_that_cannot_be_written_fails_alone(journal: JournalProtocol) -> None:
    records = [
        new_delivery("a"),
        new_delivery("b", received_at="never", event=object()),
        new_delivery("c"),
        new_delivery("a"),
    ]
    answers = await together(*(outcome(journal.append, each) for each in records))
    assert [succeeded for succeeded, _ in answers] == [True, False, True, True]
    assert [answers[number][1].status for number in (0, 2, 3)] == ["new", "new", "duplicate"]
    assert await journal.pending() == {"mirror": 2, "notes:deploy": 2}
