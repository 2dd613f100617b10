"""Deliveries: each recorded once, and recognised when it comes again."""

from __future__ import annotations

import pytest
import pytest_twisted
from journal_values import BODY, append_together, new_delivery
from outcomes import outcome
from twisted.internet.defer import Deferred, gatherResults

from stackit.journal import JournalProtocol


@pytest_twisted.ensureDeferred
async def test_a_new_delivery_is_work_for_each_subscriber(journal: JournalProtocol) -> None:
    appended = await outcome(journal.append, new_delivery("a"))
    assert (appended.status, appended.replay_of) == ("new", None)
    assert [(work.subscriber, work.group, work.attempts, work.size) for work in appended.handlings] == [
        ("mirror", "octo/widget", 0, len(BODY) + 1),
        ("notes:deploy", "octo/widget", 0, len(BODY) + 1),
    ]
    assert await journal.pending() == {"mirror": 1, "notes:deploy": 1}
    stored = await journal.load(appended.id)
    assert stored is not None
    assert (stored.kind, stored.delivery, stored.repo, stored.body) == ("delivery", "a", "Octo/Widget", BODY + b"a")


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_nobody_handles_is_recorded_without_its_body(journal: JournalProtocol) -> None:
    appended = await outcome(journal.append, new_delivery("a", subscribers=()))
    stored = await journal.load(appended.id)
    receipt = await journal.receipt(appended.id)
    assert stored is not None
    assert receipt is not None
    assert (appended.handlings, stored.body, receipt.state, receipt.size) == ((), None, "done", len(BODY) + 1)


@pytest_twisted.ensureDeferred
async def test_a_handled_delivery_that_comes_again_is_a_duplicate(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("a"))
    for work in first.handlings:
        await outcome(journal.finish, work.id, at=101.0)
    again = await outcome(journal.append, new_delivery("a", received_at=200.0))
    assert (again.id, again.status, again.handlings) == (first.id, "duplicate", ())
    assert await journal.pending() == {}


@pytest_twisted.ensureDeferred
async def test_a_dead_delivery_that_comes_again_runs_again_where_it_failed(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("a"))
    mirror, notes = first.handlings
    await journal.fail(mirror.id, at=101.0, error="ValueError: no", next_at=None)
    await outcome(journal.finish, notes.id, at=101.0)
    again = await outcome(journal.append, new_delivery("a", received_at=200.0))
    assert (again.id, again.status, again.handlings) == (first.id, "again", (mirror,))
    assert await journal.due("mirror", 200.0, group="octo/widget", limit=9) == [mirror]
    assert await journal.due("notes:deploy", 200.0, group="octo/widget", limit=9) == []


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_waits_for_a_retry_is_due_at_once_when_it_comes_again(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))
    await journal.fail(first.handlings[0].id, at=101.0, error="OSError: later", next_at=9000.0)
    assert await journal.due("mirror", 200.0, group="octo/widget", limit=9) == []
    again = await outcome(journal.append, new_delivery("a", subscribers=("mirror",), received_at=200.0))
    assert (again.status, [work.attempts for work in again.handlings]) == ("again", [1])
    assert await journal.due("mirror", 200.0, group="octo/widget", limit=9) == list(again.handlings)


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_nobody_handled_is_handled_when_it_comes_again_and_somebody_does(
    journal: JournalProtocol,
) -> None:
    first = await outcome(journal.append, new_delivery("a", subscribers=()))
    assert (await outcome(journal.append, new_delivery("a", subscribers=()))).status == "duplicate"
    again = await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))
    assert (again.id, again.status, len(again.handlings)) == (first.id, "again", 1)
    stored = await journal.load(first.id)
    assert stored is not None
    assert stored.body == BODY + b"a"


@pytest_twisted.ensureDeferred
async def test_what_nobody_handled_under_another_events_name_is_kept_as_what_it_is_when_it_comes_again(
    journal: JournalProtocol,
) -> None:
    first = await outcome(journal.append, new_delivery("a", event="unheard_of", repo=None, subscribers=()))
    again = await outcome(journal.append, new_delivery("a", subscribers=("mirror",)))
    assert [work.group for work in again.handlings] == ["octo/widget"]
    stored = await journal.load(first.id)
    assert stored is not None
    assert (stored.event, stored.repo) == ("push", "Octo/Widget")


@pytest_twisted.ensureDeferred
async def test_a_delivery_still_in_hand_that_comes_again_is_a_duplicate(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("a"))
    again = await outcome(journal.append, new_delivery("a", received_at=200.0))
    assert (again.id, again.status, again.handlings) == (first.id, "duplicate", ())
    assert await journal.due("mirror", 100.0, group="octo/widget", limit=9) == [first.handlings[0]]


@pytest_twisted.ensureDeferred
async def test_the_same_delivery_id_from_another_hook_is_another_delivery(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("a"))
    other = await outcome(journal.append, new_delivery("a", hook="8", body=b'{"ref":"other"}'))
    assert (other.status, other.id != first.id, other.replay_of) == ("new", True, None)


@pytest.mark.parametrize("subscribers", [(), ("mirror", "notes:deploy")])
@pytest_twisted.ensureDeferred
async def test_another_body_under_an_id_that_was_here_before_is_another_delivery(
    journal: JournalProtocol, subscribers: tuple[str, ...]
) -> None:
    first = await outcome(journal.append, new_delivery("a", subscribers=subscribers))
    bodies = [BODY + b" another", BODY + b" third"]
    appended = [await outcome(journal.append, new_delivery("a", body=body)) for body in bodies]
    assert [(each.status, each.reused, len(each.handlings), each.replay_of) for each in appended] == [
        ("new", True, 2, None),
        ("new", True, 2, None),
    ]
    for body, before in zip([BODY + b"a", *bodies], [first, *appended], strict=True):
        if before.handlings:
            again = await outcome(journal.append, new_delivery("a", body=body))
            assert (again.id, again.status, again.reused) == (before.id, "duplicate", False)
            stored = await journal.load(before.id)
            assert stored is not None
            assert (stored.delivery, stored.body) == ("a", body)
    elsewhere = await outcome(journal.append, new_delivery("b", body=bodies[0]))
    assert (elsewhere.replay_of, elsewhere.reused) == ("a", False)


@pytest_twisted.ensureDeferred
async def test_another_body_of_the_same_size_is_another_delivery_too(journal: JournalProtocol) -> None:
    await outcome(journal.append, new_delivery("a", body=b'{"ref":"x"}'))
    appended = await outcome(journal.append, new_delivery("a", body=b'{"ref":"y"}'))
    assert (appended.status, appended.reused, len(appended.handlings)) == ("new", True, 2)


@pytest_twisted.ensureDeferred
async def test_the_same_body_under_a_new_secret_is_the_same_delivery(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("a"))
    for work in first.handlings:
        await outcome(journal.finish, work.id, at=101.0)
    again = await outcome(journal.append, new_delivery("a", digest=b"\1" * 32))
    assert (again.id, again.status, again.handlings, again.reused) == (first.id, "duplicate", (), False)


@pytest_twisted.ensureDeferred
async def test_bodies_that_came_together_under_one_id_are_told_apart(journal: JournalProtocol) -> None:
    one, two = [new_delivery("a", body=BODY + each) for each in (b" one", b"  two")]
    appended = await gatherResults(
        [Deferred.fromCoroutine(outcome(journal.append, each)) for each in (one, two, one, two)]
    )
    assert [(each.status, each.reused) for each in appended] == [
        ("new", False),
        ("new", True),
        ("duplicate", False),
        ("duplicate", False),
    ]


@pytest_twisted.ensureDeferred
async def test_text_that_is_no_unicode_is_recorded_like_any_other(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("\udcff", action="\ud800", event="x\x00y"))
    again = await outcome(journal.append, new_delivery("\udcff"))
    assert (first.status, again.status, again.id) == ("new", "duplicate", first.id)


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_kept_late_lies_apart_from_those_around_it(journal: JournalProtocol) -> None:
    arrived = await append_together(journal, new_delivery("a"), new_delivery("b", subscribers=()), new_delivery("c"))
    again = await outcome(journal.append, new_delivery("b"))
    assert (again.status, again.id) == ("again", arrived[1].id)
    stored = [await journal.load(each.id) for each in arrived]
    assert [each and each.body for each in stored] == [BODY + name for name in (b"a", b"b", b"c")]
