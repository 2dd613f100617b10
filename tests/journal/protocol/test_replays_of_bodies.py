"""Bodies that come back: under another delivery id, and by another hook."""

from __future__ import annotations

import pytest_twisted
from journal_values import BODY, new_delivery
from outcomes import outcome

from stackit.journal import JournalProtocol


@pytest_twisted.ensureDeferred
async def test_one_event_by_two_hooks_is_no_replay_and_handled_for_each(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("a", body=BODY))
    other = await outcome(journal.append, new_delivery("a", hook="8", body=BODY))
    assert (other.status, other.id != first.id, len(other.handlings), other.replay_of) == ("new", True, 2, None)
    replayed = await outcome(journal.append, new_delivery("b", hook="8", body=BODY))
    assert replayed.replay_of == "a"
    # Both hooks again, and what was a replay by another hook still is one.
    for hook, delivery, replay_of in (("7", "a", None), ("8", "a", None), ("9", "b", "a")):
        assert (await outcome(journal.append, new_delivery(delivery, hook=hook, body=BODY))).replay_of == replay_of


@pytest_twisted.ensureDeferred
async def test_where_replays_are_refused_one_event_by_two_hooks_is_handled_once(journal: JournalProtocol) -> None:
    first = await outcome(journal.append, new_delivery("a", body=BODY, refuse_replay=True))
    for hook in ("8", "9", ""):
        copy = await outcome(journal.append, new_delivery("a", hook=hook, body=BODY, refuse_replay=True))
        assert (copy.id, copy.status, copy.handlings, copy.replay_of) == (first.id, "duplicate", (), None)
    other = await outcome(journal.append, new_delivery("a", hook="8", body=BODY + b" ", refuse_replay=True))
    assert (other.status, len(other.handlings), other.replay_of) == ("new", 2, None)
    work = first.handlings[0]
    await journal.fail(work.id, at=101.0, error="no", next_at=None)
    again = await outcome(journal.append, new_delivery("a", hook="9", body=BODY, refuse_replay=True))
    assert (again.id, again.status, [each.id for each in again.handlings]) == (first.id, "again", [work.id])


@pytest_twisted.ensureDeferred
async def test_where_replays_are_refused_a_hook_brings_what_nobody_wanted_from_another(
    journal: JournalProtocol,
) -> None:
    first = await outcome(journal.append, new_delivery("a", body=BODY, subscribers=(), refuse_replay=True))
    copy = await outcome(journal.append, new_delivery("a", hook="8", body=BODY, refuse_replay=True))
    assert (copy.id, copy.status, len(copy.handlings), copy.replay_of) == (first.id, "again", 2, None)


@pytest_twisted.ensureDeferred
async def test_a_body_that_comes_back_under_the_id_of_a_delivery_nobody_handled_names_the_first(
    journal: JournalProtocol,
) -> None:
    await outcome(journal.append, new_delivery("a", body=BODY))
    await outcome(journal.append, new_delivery("b", subscribers=()))
    replayed = await outcome(journal.append, new_delivery("b", body=BODY, refuse_replay=True))
    assert (replayed.handlings, replayed.replay_of) == ((), "a")


@pytest_twisted.ensureDeferred
async def test_a_body_that_comes_back_under_another_id_names_the_first(journal: JournalProtocol) -> None:
    await outcome(journal.append, new_delivery("a", body=BODY))
    for other in ("b", "c"):
        replayed = await outcome(journal.append, new_delivery(other, body=BODY))
        assert (replayed.status, replayed.replay_of) == ("new", "a")
    assert (await outcome(journal.append, new_delivery("c", body=BODY))).replay_of == "a"
    assert (await outcome(journal.append, new_delivery("a", body=BODY))).replay_of is None


@pytest_twisted.ensureDeferred
async def test_a_fingerprint_that_only_begins_like_another_is_another(journal: JournalProtocol) -> None:
    await outcome(journal.append, new_delivery("a", digest=b"12345678" + b"a" * 24))
    other = await outcome(journal.append, new_delivery("b", digest=b"12345678" + b"b" * 24))
    same = await outcome(journal.append, new_delivery("c", digest=b"12345678" + b"b" * 24))
    assert (other.replay_of, same.replay_of) == (None, "b")


@pytest_twisted.ensureDeferred
async def test_a_replayed_body_that_is_refused_is_written_down_and_reaches_nobody(journal: JournalProtocol) -> None:
    await outcome(journal.append, new_delivery("first", body=BODY))
    for _ in range(2):
        refused = await outcome(journal.append, new_delivery("second", body=BODY, refuse_replay=True))
        assert (refused.handlings, refused.replay_of) == ((), "first")
