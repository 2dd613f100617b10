"""What the journal remembers: deliveries, handlings, announced refs, and what each is asked for."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from outcomes import outcome
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from stackit.api.errors import JournalError, Permanent
from stackit.api.events import RefChange
from stackit.journal import AppendResult, Journal, NewDelivery, decode_changes, dedup, deliveries

BODY = b'{"ref":"refs/heads/main"}'
ZEROS, ONE, TWO = "0" * 40, "1" * 40, "2" * 40


def record(delivery: str, **fields: Any) -> NewDelivery:
    """A delivery; one of another id has another body, unless ``body`` says otherwise."""
    body = fields.pop("body", BODY + delivery.encode("utf-8", "backslashreplace"))
    values: dict[str, Any] = {
        "hook": "7",
        "delivery": delivery,
        "event": "push",
        "action": None,
        "repo": "Octo/Widget",
        "received_at": 100.0,
        "digest": hashlib.sha256(body).digest(),
        "body": body,
        "subscribers": ("mirror", "notes:deploy"),
    }
    return NewDelivery(**{**values, **fields})


@pytest_twisted.async_yield_fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    opened = Journal.open(tmp_path / "state", reactor=reactor)
    yield opened
    await opened.close()


# -- deliveries -------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_new_delivery_is_work_for_each_subscriber(journal: Journal) -> None:
    appended = await outcome(journal.append, record("a"))
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
async def test_a_delivery_that_nobody_handles_is_recorded_without_its_body(journal: Journal) -> None:
    appended = await outcome(journal.append, record("a", subscribers=()))
    stored = await journal.load(appended.id)
    receipt = await journal.receipt(appended.id)
    assert stored is not None
    assert receipt is not None
    assert (appended.handlings, stored.body, receipt.state, receipt.size) == ((), None, "done", len(BODY) + 1)


@pytest_twisted.ensureDeferred
async def test_a_handled_delivery_that_comes_again_is_a_duplicate(journal: Journal) -> None:
    first = await outcome(journal.append, record("a"))
    for work in first.handlings:
        await outcome(journal.finish, work.id, at=101.0)
    again = await outcome(journal.append, record("a", received_at=200.0))
    assert (again.id, again.status, again.handlings) == (first.id, "duplicate", ())
    assert await journal.pending() == {}


@pytest_twisted.ensureDeferred
async def test_a_dead_delivery_that_comes_again_runs_again_where_it_failed(journal: Journal) -> None:
    first = await outcome(journal.append, record("a"))
    mirror, notes = first.handlings
    await journal.fail(mirror.id, at=101.0, error="ValueError: no", next_at=None)
    await outcome(journal.finish, notes.id, at=101.0)
    again = await outcome(journal.append, record("a", received_at=200.0))
    assert (again.id, again.status, again.handlings) == (first.id, "again", (mirror,))
    assert await journal.due("mirror", 200.0, limit=9) == [mirror]
    assert await journal.due("notes:deploy", 200.0, limit=9) == []


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_waits_for_a_retry_is_due_at_once_when_it_comes_again(journal: Journal) -> None:
    first = await outcome(journal.append, record("a", subscribers=("mirror",)))
    await journal.fail(first.handlings[0].id, at=101.0, error="OSError: later", next_at=9000.0)
    assert await journal.due("mirror", 200.0, limit=9) == []
    again = await outcome(journal.append, record("a", subscribers=("mirror",), received_at=200.0))
    assert (again.status, [work.attempts for work in again.handlings]) == ("again", [1])
    assert await journal.due("mirror", 200.0, limit=9) == list(again.handlings)


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_nobody_handled_is_handled_when_it_comes_again_and_somebody_does(
    journal: Journal,
) -> None:
    first = await outcome(journal.append, record("a", subscribers=()))
    assert (await outcome(journal.append, record("a", subscribers=()))).status == "duplicate"
    again = await outcome(journal.append, record("a", subscribers=("mirror",)))
    assert (again.id, again.status, len(again.handlings)) == (first.id, "again", 1)
    stored = await journal.load(first.id)
    assert stored is not None
    assert stored.body == BODY + b"a"


@pytest_twisted.ensureDeferred
async def test_what_nobody_handled_under_another_events_name_is_kept_as_what_it_is_when_it_comes_again(
    journal: Journal,
) -> None:
    first = await outcome(journal.append, record("a", event="unheard_of", repo=None, subscribers=()))
    again = await outcome(journal.append, record("a", subscribers=("mirror",)))
    assert [work.group for work in again.handlings] == ["octo/widget"]
    stored = await journal.load(first.id)
    assert stored is not None
    assert (stored.event, stored.repo) == ("push", "Octo/Widget")


@pytest_twisted.ensureDeferred
async def test_a_delivery_still_in_hand_that_comes_again_is_a_duplicate(journal: Journal) -> None:
    first = await outcome(journal.append, record("a"))
    again = await outcome(journal.append, record("a", received_at=200.0))
    assert (again.id, again.status, again.handlings) == (first.id, "duplicate", ())
    assert await journal.due("mirror", 100.0, limit=9) == [first.handlings[0]]


@pytest_twisted.ensureDeferred
async def test_the_same_delivery_id_from_another_hook_is_another_delivery(journal: Journal) -> None:
    first = await outcome(journal.append, record("a"))
    other = await outcome(journal.append, record("a", hook="8", body=b'{"ref":"other"}'))
    assert (other.status, other.id != first.id, other.replay_of) == ("new", True, None)


@pytest.mark.parametrize("subscribers", [(), ("mirror", "notes:deploy")])
@pytest_twisted.ensureDeferred
async def test_another_body_under_an_id_that_was_here_before_is_another_delivery(
    journal: Journal, subscribers: tuple[str, ...]
) -> None:
    first = await outcome(journal.append, record("a", subscribers=subscribers))
    bodies = [BODY + b" another", BODY + b" third"]
    appended = [await outcome(journal.append, record("a", body=body)) for body in bodies]
    assert [(each.status, each.reused, len(each.handlings), each.replay_of) for each in appended] == [
        ("new", True, 2, None),
        ("new", True, 2, None),
    ]
    for body, before in zip([BODY + b"a", *bodies], [first, *appended], strict=True):
        if before.handlings:
            again = await outcome(journal.append, record("a", body=body))
            assert (again.id, again.status, again.reused) == (before.id, "duplicate", False)
            stored = await journal.load(before.id)
            assert stored is not None
            assert (stored.delivery, stored.body) == ("a", body)
    elsewhere = await outcome(journal.append, record("b", body=bodies[0]))
    assert (elsewhere.replay_of, elsewhere.reused) == ("a", False)


@pytest_twisted.ensureDeferred
async def test_another_body_of_the_same_size_is_another_delivery_too(journal: Journal) -> None:
    await outcome(journal.append, record("a", body=b'{"ref":"x"}'))
    appended = await outcome(journal.append, record("a", body=b'{"ref":"y"}'))
    assert (appended.status, appended.reused, len(appended.handlings)) == ("new", True, 2)


@pytest_twisted.ensureDeferred
async def test_the_same_body_under_a_new_secret_is_the_same_delivery(journal: Journal) -> None:
    first = await outcome(journal.append, record("a"))
    for work in first.handlings:
        await outcome(journal.finish, work.id, at=101.0)
    again = await outcome(journal.append, record("a", digest=b"\1" * 32))
    assert (again.id, again.status, again.handlings, again.reused) == (first.id, "duplicate", (), False)


@pytest_twisted.ensureDeferred
async def test_bodies_that_came_together_under_one_id_are_told_apart(journal: Journal) -> None:
    one, two = [record("a", body=BODY + each) for each in (b" one", b"  two")]
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
async def test_one_event_by_two_hooks_is_no_replay_and_handled_for_each(journal: Journal) -> None:
    first = await outcome(journal.append, record("a", body=BODY))
    other = await outcome(journal.append, record("a", hook="8", body=BODY))
    assert (other.status, other.id != first.id, len(other.handlings), other.replay_of) == ("new", True, 2, None)
    replayed = await outcome(journal.append, record("b", hook="8", body=BODY))
    assert replayed.replay_of == "a"
    # Both hooks again, and what was a replay by another hook still is one.
    for hook, delivery, replay_of in (("7", "a", None), ("8", "a", None), ("9", "b", "a")):
        assert (await outcome(journal.append, record(delivery, hook=hook, body=BODY))).replay_of == replay_of


@pytest_twisted.ensureDeferred
async def test_where_replays_are_refused_one_event_by_two_hooks_is_handled_once(journal: Journal) -> None:
    first = await outcome(journal.append, record("a", body=BODY, refuse_replay=True))
    for hook in ("8", "9", ""):
        copy = await outcome(journal.append, record("a", hook=hook, body=BODY, refuse_replay=True))
        assert (copy.id, copy.status, copy.handlings, copy.replay_of) == (first.id, "duplicate", (), None)
    other = await outcome(journal.append, record("a", hook="8", body=BODY + b" ", refuse_replay=True))
    assert (other.status, len(other.handlings), other.replay_of) == ("new", 2, None)
    work = first.handlings[0]
    await journal.fail(work.id, at=101.0, error="no", next_at=None)
    again = await outcome(journal.append, record("a", hook="9", body=BODY, refuse_replay=True))
    assert (again.id, again.status, [each.id for each in again.handlings]) == (first.id, "again", [work.id])


@pytest_twisted.ensureDeferred
async def test_where_replays_are_refused_a_hook_brings_what_nobody_wanted_from_another(journal: Journal) -> None:
    first = await outcome(journal.append, record("a", body=BODY, subscribers=(), refuse_replay=True))
    copy = await outcome(journal.append, record("a", hook="8", body=BODY, refuse_replay=True))
    assert (copy.id, copy.status, len(copy.handlings), copy.replay_of) == (first.id, "again", 2, None)


@pytest_twisted.ensureDeferred
async def test_a_body_that_comes_back_under_the_id_of_a_delivery_nobody_handled_names_the_first(
    journal: Journal,
) -> None:
    await outcome(journal.append, record("a", body=BODY))
    await outcome(journal.append, record("b", subscribers=()))
    replayed = await outcome(journal.append, record("b", body=BODY, refuse_replay=True))
    assert (replayed.handlings, replayed.replay_of) == ((), "a")


@pytest_twisted.ensureDeferred
async def test_a_body_that_comes_back_under_another_id_names_the_first(journal: Journal) -> None:
    await outcome(journal.append, record("a", body=BODY))
    for other in ("b", "c"):
        replayed = await outcome(journal.append, record(other, body=BODY))
        assert (replayed.status, replayed.replay_of) == ("new", "a")
    assert (await outcome(journal.append, record("c", body=BODY))).replay_of == "a"
    assert (await outcome(journal.append, record("a", body=BODY))).replay_of is None


@pytest_twisted.ensureDeferred
async def test_a_fingerprint_that_only_begins_like_another_is_another(journal: Journal) -> None:
    await outcome(journal.append, record("a", digest=b"12345678" + b"a" * 24))
    other = await outcome(journal.append, record("b", digest=b"12345678" + b"b" * 24))
    same = await outcome(journal.append, record("c", digest=b"12345678" + b"b" * 24))
    assert (other.replay_of, same.replay_of) == (None, "b")


@pytest.fixture
def open_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Journal]:
    """Opens a journal whose digests go into the index after every so many events."""

    def opened(together: int, **settings: Any) -> Journal:
        from twisted.internet import reactor  # noqa: PLC0415

        monkeypatch.setattr(dedup, "_TOGETHER", together)
        return Journal.open(tmp_path / "state", reactor=reactor, **settings)

    return opened


def _digests(directory: Path) -> list[int]:
    """The events whose digests are in the index."""
    with closing(sqlite3.connect(directory / "state" / "journal.sqlite3")) as connection:
        return [event_id for (event_id,) in connection.execute("SELECT event_id FROM digests ORDER BY event_id")]


@pytest_twisted.ensureDeferred
async def test_a_body_is_recognised_from_memory_from_the_index_and_after_a_restart(
    tmp_path: Path, open_small: Callable[..., Journal]
) -> None:
    journal = open_small(8)
    for number in range(1, 21):
        # Announcements have ids of the same row; two bodies, those of 1 and 19, are the same.
        if number % 5 == 0:
            await journal.announce(
                "octo/widget", (RefChange(f"r{number}", ZEROS, ONE, "created"),), "push", None, 1, ()
            )
        else:
            await outcome(journal.append, record(f"d{number}", body=BODY + str(number % 18).encode()))
    assert _digests(tmp_path) == [1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 16]

    async def known() -> dict[int, str | None]:
        again = {}
        for number in range(18):
            made = record(f"again-{number}-{len(again)}", body=BODY + str(number).encode())
            again[number] = (await outcome(journal.append, made)).replay_of
        return again

    await journal.close()
    journal = open_small(8)
    named = {number: f"d{number}" for number in range(18) if number % 5}
    assert await known() == {0: "d18", 5: None, 10: None, 15: None, **named}
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_commit_that_is_taken_back_forgets_no_body(tmp_path: Path, open_small: Callable[..., Journal]) -> None:
    journal = open_small(8)
    for number in range(5):
        await outcome(journal.append, record(f"before-{number}"))

    def refused(connection: Any) -> None:
        deliveries.append(connection, [record(f"taken-back-{number}") for number in range(10)])
        connection.execute("INSERT INTO events (id) VALUES (1)")

    with pytest.raises(JournalError, match="refused"):
        await journal._writer.submit(refused)
    assert _digests(tmp_path) == []
    for kind, first_one in (("before", "before-0"), ("taken-back", None)):
        body = record(f"{kind}-0").body
        assert (await outcome(journal.append, record(f"{kind}-again", body=body))).replay_of == first_one
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_body_whose_event_is_forgotten_is_not_recognised(
    tmp_path: Path, open_small: Callable[..., Journal]
) -> None:
    journal = open_small(4, keep_for=10.0)
    for number in range(6):
        await outcome(journal.append, record(f"d{number}", subscribers=() if number < 5 else ("mirror",)))
    assert await journal.prune(1000.0) == 5
    assert _digests(tmp_path) == []
    for number in range(6):
        first = record(f"d{number}")
        again = await outcome(journal.append, msgspec.structs.replace(first, delivery=f"again-{number}"))
        assert again.replay_of == (None if number < 5 else "d5")
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_came_again_with_another_body_is_recognised_by_that(
    open_small: Callable[..., Journal],
) -> None:
    journal = open_small(4)
    for number in range(6):  # the first is in the index by then, the last is not
        await outcome(journal.append, record(f"d{number}", subscribers=()))
    for number in (0, 5):
        other = record(f"d{number}", body=BODY + b"D%d" % number)  # as long as the one that is not kept
        assert (await outcome(journal.append, other)).status == "again"
        old = await outcome(journal.append, record(f"old-{number}", body=record(f"d{number}").body))
        new = await outcome(journal.append, record(f"new-{number}", body=other.body))
        assert (old.replay_of, new.replay_of) == (None, f"d{number}")
    await journal.close()


@pytest_twisted.ensureDeferred
async def test_text_that_is_no_unicode_is_recorded_like_any_other(journal: Journal) -> None:
    first = await outcome(journal.append, record("\udcff", action="\ud800", event="x\x00y"))
    again = await outcome(journal.append, record("\udcff"))
    assert (first.status, again.status, again.id) == ("new", "duplicate", first.id)


# -- handlings --------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_work_is_due_in_the_order_it_came_and_in_pieces(journal: Journal) -> None:
    works = [(await outcome(journal.append, record(str(number)))).handlings[0] for number in range(5)]
    page = await journal.due("mirror", 100.0, limit=2)
    assert page == works[:2]
    assert await journal.due("mirror", 100.0, after=page[-1].id, limit=9) == works[2:]
    assert await journal.due("mirror", 99.0, limit=9) == []


@pytest_twisted.ensureDeferred
async def test_work_is_due_by_group_and_groups_by_how_long_they_wait(journal: Journal) -> None:
    one = (await outcome(journal.append, record("1", repo="z/late"))).handlings[0]
    two = (await outcome(journal.append, record("2", repo="a/soon"))).handlings[0]
    three = (await outcome(journal.append, record("3", repo="Z/Late"))).handlings[0]
    await outcome(journal.append, record("4", repo=None, received_at=900.0))
    assert await journal.due_groups("mirror", now=100.0) == ["z/late", "a/soon"]
    assert await journal.due("mirror", 100.0, group="z/late", limit=9) == [one, three]
    assert await journal.due("mirror", 100.0, group="a/soon", limit=9) == [two]
    assert await journal.due_groups("mirror", now=900.0) == ["z/late", "a/soon", ""]


@pytest_twisted.ensureDeferred
async def test_a_failed_handling_is_due_again_at_its_time(journal: Journal) -> None:
    (work,) = (await outcome(journal.append, record("a", subscribers=("mirror",)))).handlings
    await journal.fail(work.id, at=101.0, error="OSError: later\udcff", next_at=150.0)
    assert await journal.next_due("mirror") == 150.0
    assert await journal.next_due("mirror", after=150.0) is None
    assert await journal.due("mirror", 149.0, limit=9) == []
    assert await journal.due("mirror", 150.0, limit=9) == [msgspec.structs.replace(work, attempts=1)]
    assert await journal.next_due("nobody") is None


@pytest_twisted.ensureDeferred
async def test_a_receipt_tells_what_each_subscriber_did_and_when_the_commit_was_visible(journal: Journal) -> None:
    appended = await outcome(journal.append, record("a"))
    mirror, notes = appended.handlings
    await journal.started(mirror.id, 100.5)
    await outcome(journal.finish, mirror.id, at=101.0)
    await journal.fail(notes.id, at=102.0, error="ValueError: no", next_at=None)
    await journal.visible(appended.id, 103.0)
    await journal.visible(appended.id, 104.0)
    receipt = await journal.receipt(appended.id)
    assert receipt is not None
    assert (receipt.state, receipt.visible_at) == ("dead", 103.0)
    assert [msgspec.structs.astuple(handling) for handling in receipt.handlings] == [
        ("mirror", "done", 1, None, None, 100.5, 101.0),
        ("notes:deploy", "dead", 1, "ValueError: no", None, None, 102.0),
    ]
    assert await journal.receipt(appended.id + 1) is None


# -- replay -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_replay_runs_all_that_had_the_event_or_those_that_are_named(journal: Journal) -> None:
    appended = await outcome(journal.append, record("a"))
    for work in appended.handlings:
        await outcome(journal.finish, work.id, at=101.0)
    assert await journal.replay(appended.id, None, now=300.0) == list(appended.handlings)
    named = await journal.replay(appended.id, ["fresh", "mirror"], now=400.0)
    assert [work.subscriber for work in named] == ["fresh", "mirror"]
    assert await journal.due("fresh", 400.0, limit=9) == [named[0]]
    assert await journal.pending() == {"fresh": 1, "mirror": 1, "notes:deploy": 1}


@pytest_twisted.ensureDeferred
async def test_a_replay_needs_an_event_and_its_body(journal: Journal) -> None:
    unhandled = await outcome(journal.append, record("a", subscribers=()))
    with pytest.raises(LookupError):
        await journal.replay(12345, None, now=1.0)
    with pytest.raises(ValueError, match="not kept"):
        await journal.replay(unhandled.id, ["mirror"], now=1.0)
    assert journal.problem() is None


@pytest_twisted.ensureDeferred
async def test_all_dead_letters_of_one_subscriber_are_replayed_together(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stackit.journal.journal._REPLAY_STEP", 2)
    works = []
    for number in range(5):
        mirror, notes = (await outcome(journal.append, record(str(number)))).handlings
        works.append(mirror)
        await journal.fail(mirror.id, at=101.0, error="no", next_at=None)
        await journal.fail(notes.id, at=101.0, error="no", next_at=None)
    assert await journal.replay_dead("mirror", now=500.0) == works
    assert await journal.replay_dead("mirror", now=500.0) == []
    assert await journal.pending() == {"mirror": 5}


# -- announced refs ---------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_announced_refs_move_together_with_the_event_that_says_so(journal: Journal) -> None:
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
    assert await journal.due("notes", 110.0, group="octo/widget", limit=9) == [*first.handlings, *second.handlings]

    stored = await journal.load(first.id)
    assert stored is not None
    change = decode_changes(stored)
    assert (change.changes, change.cause, change.delivery, str(change.repo)) == (created, "push", "guid", "Octo/Widget")
    assert (change.id, change.received_at) == (str(first.id), 100.0)


@pytest_twisted.ensureDeferred
async def test_an_announcement_that_cannot_be_written_moves_no_ref_and_harms_no_neighbour(journal: Journal) -> None:
    from twisted.internet.defer import Deferred  # noqa: PLC0415

    broken: Any = [RefChange("refs/heads/main", ZEROS, ONE, "created"), RefChange("refs/x", ZEROS, object(), "created")]  # type: ignore[arg-type]
    before = Deferred.fromCoroutine(outcome(journal.append, record("a")))
    failing = Deferred.fromCoroutine(journal.announce("octo/widget", broken, "push", None, 100.0, ["notes"]))
    after = Deferred.fromCoroutine(outcome(journal.append, record("b")))
    with pytest.raises(JournalError, match="refused"):
        await failing
    assert [(await before).status, (await after).status] == ["new", "new"]
    assert await journal.announced("octo/widget") == {}
    assert journal.problem() is None


# -- listing ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_listing_is_newest_first_and_paged_by_its_cursor(journal: Journal) -> None:
    ids = [(await outcome(journal.append, record(str(number)))).id for number in range(5)]
    first = await journal.listing(limit=2)
    await outcome(journal.append, record("meanwhile"))
    second = await journal.listing(limit=2, cursor=first.next)
    third = await journal.listing(limit=2, cursor=second.next)
    listed = [receipt.id for page in (first, second, third) for receipt in page.deliveries]
    assert (listed, third.next) == (ids[::-1], None)


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "٣", "9" * 30, "1 OR 1"])
@pytest_twisted.ensureDeferred
async def test_a_cursor_that_no_page_gave_out_is_a_value_error(journal: Journal, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await journal.listing(cursor=cursor)


@pytest_twisted.ensureDeferred
async def test_a_listing_can_be_filtered_by_everything_at_once_or_alone(journal: Journal) -> None:
    done = await outcome(journal.append, record("done", repo="a/b"))
    dead = await outcome(journal.append, record("dead", event="issues", action="opened"))
    mixed = await outcome(journal.append, record("mixed"))
    unhandled = await outcome(journal.append, record("unhandled", subscribers=(), repo=None))
    change = RefChange("refs/heads/main", ZEROS, ONE, "created")
    refs = await journal.announce("a/b", [change], "push", "done", 100.0, ["late"])
    for work in (*done.handlings, dead.handlings[0], mixed.handlings[0]):
        await outcome(journal.finish, work.id, at=101.0)
    await journal.fail(dead.handlings[1].id, at=101.0, error="no", next_at=None)
    both = await outcome(journal.append, record("both"))  # dead at one, pending at the other: pending
    await journal.fail(both.handlings[0].id, at=101.0, error="no", next_at=None)

    expected: list[tuple[dict[str, str], list[int]]] = [
        ({}, [both.id, unhandled.id, mixed.id, dead.id, done.id]),
        ({"delivery": "dead"}, [dead.id]),
        ({"delivery": "nothing"}, []),
        ({"event": "issues"}, [dead.id]),
        ({"event": "refs_changed"}, [refs.id]),
        ({"event": "refs_changed", "repo": "A/B", "state": "pending"}, [refs.id]),
        ({"repo": "A/B"}, [done.id]),
        ({"state": "pending"}, [both.id, mixed.id]),
        ({"state": "dead"}, [dead.id]),
        ({"state": "done"}, [unhandled.id, done.id]),
        ({"subscriber": "mirror"}, [both.id, mixed.id, dead.id, done.id]),
        ({"subscriber": "nobody"}, []),
        ({"subscriber": "mirror", "state": "done"}, [mixed.id, dead.id, done.id]),
        ({"subscriber": "mirror", "state": "dead"}, [both.id]),
        ({"subscriber": "notes:deploy", "state": "pending"}, [both.id, mixed.id]),
        ({"event": "push", "repo": "octo/widget", "state": "pending", "delivery": "mixed"}, [mixed.id]),
    ]
    for filters, ids in expected:
        page = await journal.listing(**filters)  # type: ignore[arg-type]
        assert [receipt.id for receipt in page.deliveries] == ids, filters
        paged, cursor = [], None
        while True:
            page = await journal.listing(**filters, cursor=cursor, limit=1)  # type: ignore[arg-type]
            paged += [receipt.id for receipt in page.deliveries]
            cursor = page.next
            if cursor is None:
                break
        assert paged == ids, filters
    with pytest.raises(ValueError, match="state"):
        await journal.listing(state="lost")


# -- retention --------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_is_too_old_goes_but_never_what_is_pending(journal: Journal) -> None:
    week = 7 * 86400
    old = await outcome(journal.append, record("old", subscribers=("mirror",)))
    waiting = await outcome(journal.append, record("waiting", subscribers=("mirror",)))
    dead = await outcome(journal.append, record("dead", subscribers=("mirror",)))
    young = await outcome(journal.append, record("young", subscribers=(), received_at=200.0))
    await outcome(journal.finish, old.handlings[0].id, at=101.0)
    await journal.fail(dead.handlings[0].id, at=101.0, error="no", next_at=None)
    assert await journal.prune(week + 100.0) == 0
    assert await journal.prune(week + 150.0) == 2
    assert await journal.prune(week + 150.0) == 0
    assert [receipt.id for receipt in (await journal.listing()).deliveries] == [young.id, waiting.id]
    assert await journal.load(old.id) is None
    assert (await outcome(journal.append, record("old", subscribers=("mirror",)))).status == "new"


@pytest_twisted.ensureDeferred
async def test_beyond_its_size_the_journal_forgets_the_oldest_and_no_more_than_needed(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415

    journal = Journal.open(tmp_path / "state", reactor=reactor, keep_bytes=2**20)
    works = []
    for number in range(30):
        body = os.urandom(100_000)
        works += (await outcome(journal.append, record(str(number), subscribers=("mirror",), body=body))).handlings
    for work in works[1:]:
        await outcome(journal.finish, work.id, at=101.0)
    pruned = 0
    while step := await journal.prune(101.0):
        pruned += step
    left = [receipt.delivery for receipt in (await journal.listing(limit=100)).deliveries]
    await journal.close()
    assert left[-1] == "0"  # the oldest of all, but pending
    assert left[:-1] == [str(number) for number in range(29, 29 - len(left) + 1, -1)]
    assert 7 <= len(left) <= 10
    assert pruned == 30 - len(left)


@pytest_twisted.ensureDeferred
async def test_bodies_that_lie_together_go_when_none_of_them_is_needed(journal: Journal, tmp_path: Path) -> None:
    week = 7 * 86400
    early = await arrive(journal, *(record(f"early-{number}", subscribers=("mirror",)) for number in range(3)))
    late = await arrive(journal, *(record(f"late-{number}", subscribers=("mirror",)) for number in range(3)))
    waiting = early[1]
    for each in (early[0], early[2], *late):
        await outcome(journal.finish, each.handlings[0].id, at=101.0)
    assert await journal.prune(week + 150.0) == 5
    assert rows(tmp_path, "SELECT first, last FROM bundles") == [(early[0].id, early[2].id)]
    stored = await journal.load(waiting.id)
    assert stored is not None
    assert stored.body == BODY + b"early-1"
    await outcome(journal.finish, waiting.handlings[0].id, at=101.0)
    assert await journal.prune(week + 150.0) == 1
    assert rows(tmp_path, "SELECT first, last FROM bundles") == []


@pytest_twisted.ensureDeferred
async def test_bodies_that_lie_together_are_no_more_than_needed_either(tmp_path: Path) -> None:
    from twisted.internet import reactor  # noqa: PLC0415

    journal = Journal.open(tmp_path / "state", reactor=reactor, keep_bytes=2**20)
    arrived = []
    for number in range(30):
        arrived += await arrive(
            journal, *(record(f"{number}-{part}", subscribers=("mirror",), body=os.urandom(20_000)) for part in "abcde")
        )
    for each in arrived[1:]:
        await outcome(journal.finish, each.handlings[0].id, at=101.0)
    while await journal.prune(101.0):
        pass
    left = [receipt.id for receipt in (await journal.listing(limit=200)).deliveries]
    await journal.close()
    assert left[-1] == arrived[0].id  # pending
    assert left[:-1] == [each.id for each in reversed(arrived)][: len(left) - 1]
    assert 35 <= len(left) <= 50


@pytest_twisted.ensureDeferred
async def test_a_replayed_body_that_is_refused_is_written_down_and_reaches_nobody(journal: Journal) -> None:
    await outcome(journal.append, record("first", body=BODY))
    for _ in range(2):
        refused = await outcome(journal.append, record("second", body=BODY, refuse_replay=True))
        assert (refused.handlings, refused.replay_of) == ((), "first")


# -- many at once --------------------------------------------------------------------


def together(*asked: Any) -> Deferred[Any]:
    """All of them in one turn of the reactor, and so in one commit."""
    return DeferredList([Deferred.fromCoroutine(each) for each in asked], consumeErrors=True)


async def arrive(journal: Journal, *records: NewDelivery) -> list[AppendResult]:
    """What became of these, in one commit."""
    return [appended for _, appended in await together(*(outcome(journal.append, each) for each in records))]


def rows(tmp_path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(tmp_path / "state" / "journal.sqlite3")) as connection:
        return connection.execute(query).fetchall()


@pytest_twisted.ensureDeferred
async def test_deliveries_of_one_commit_are_told_apart_as_those_of_many_are(journal: Journal) -> None:
    records = [
        record("a"),
        record("b", subscribers=()),
        record("a"),  # the same again
        record("c", body=BODY + b"a"),  # the body of the first
        record("a", hook="8"),  # its id, and its body, from another hook
        record("d", repo=None),
        *(record(f"more-{number}") for number in range(150)),
        record("more-149"),
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
    assert ids == sorted(ids)
    for asked, answer in zip(records, answers, strict=True):
        stored = await journal.load(answer.id)
        assert stored is not None
        assert (stored.delivery, stored.hook) == (asked.delivery, asked.hook)
        assert stored.body == (asked.body if asked.subscribers else None)
        if answer.status == "new":
            assert [(work.event_id, work.subscriber) for work in answer.handlings] == [
                (answer.id, subscriber) for subscriber in asked.subscribers
            ]
    works = await journal.due("mirror", 200.0, limit=500)
    assert [work.event_id for work in works] == [each.id for each in answers if each.status == "new" and each.handlings]


@pytest_twisted.ensureDeferred
async def test_what_is_handled_while_others_arrive_is_done_and_they_are_not(journal: Journal) -> None:
    first = await together(
        *(outcome(journal.append, record(f"first-{number}", subscribers=("mirror",))) for number in range(5))
    )
    works = [work for _, appended in first for work in appended.handlings]
    await together(
        outcome(journal.finish, works[0].id, at=101.0),
        outcome(journal.append, record("second", subscribers=("mirror",))),
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
async def test_a_count_of_what_is_pending_stands_where_it_was_asked_for(journal: Journal) -> None:
    appends = [outcome(journal.append, record(str(number), subscribers=("mirror",))) for number in range(4)]
    answers = await together(appends[0], appends[1], journal.pending(), appends[2], appends[3])
    assert answers[2] == (True, {"mirror": 2})


@pytest_twisted.ensureDeferred
async def test_a_record_that_cannot_be_written_fails_alone(journal: Journal) -> None:
    records = [record("a"), record("b", received_at="never", event=object()), record("c"), record("a")]
    answers = await together(*(outcome(journal.append, each) for each in records))
    assert [succeeded for succeeded, _ in answers] == [True, False, True, True]
    assert [answers[number][1].status for number in (0, 2, 3)] == ["new", "new", "duplicate"]
    assert await journal.pending() == {"mirror": 2, "notes:deploy": 2}


# -- bodies -------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_body_takes_a_fraction_of_its_size(journal: Journal, tmp_path: Path) -> None:
    body = json.dumps(
        [{"url": f"https://api.github.com/repos/octo/widget/{number}"} for number in range(2000)]
    ).encode()
    appended = await outcome(journal.append, record("a", body=body))
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        ((length,),) = connection.execute("SELECT LENGTH(body) FROM bodies").fetchall()
    connection.close()
    assert length < len(body) / 4
    stored = await journal.load(appended.id)
    assert stored is not None
    assert stored.body == body


@pytest_twisted.ensureDeferred
async def test_a_body_that_was_stored_as_it_came_is_read_as_it_is(journal: Journal, tmp_path: Path) -> None:
    appended = await outcome(journal.append, record("a"))
    change(tmp_path, lambda _: BODY)
    stored = await journal.load(appended.id)
    assert stored is not None
    assert stored.body == BODY


@pytest_twisted.ensureDeferred
async def test_a_damaged_body_is_never_taken_for_one(journal: Journal, tmp_path: Path) -> None:
    body = os.urandom(20_000).hex().encode()
    appended = await outcome(journal.append, record("a", body=body))
    for at in (10, 5_000, -1):

        def damaged(stored: bytes, at: int = at) -> bytes:
            return stored[:at] + bytes([stored[at] ^ 1]) + (stored[at + 1 :] if at != -1 else b"")

        change(tmp_path, damaged)
        with pytest.raises(Permanent, match=f"the body of delivery {appended.id} is damaged"):
            await journal.load(appended.id)
        change(tmp_path, damaged)
    assert await journal.load(appended.id) is not None


@pytest_twisted.ensureDeferred
async def test_bodies_of_one_commit_that_say_the_same_take_hardly_more_than_one(
    journal: Journal, tmp_path: Path
) -> None:
    same = os.urandom(4_000).hex().encode()
    bodies = [b"%s%d" % (same, number) for number in range(7)]
    arrived = await arrive(journal, *(record(str(number), body=body) for number, body in enumerate(bodies)))
    ((length,),) = rows(tmp_path, "SELECT LENGTH(bodies) FROM bundles")
    assert length < 2 * len(same)
    assert [stored and stored.body for stored in [await journal.load(each.id) for each in arrived]] == bodies


@pytest_twisted.ensureDeferred
async def test_no_more_than_a_bounded_number_of_bytes_lies_together(journal: Journal, tmp_path: Path) -> None:
    sizes = [20_000, 20_000, 20_000, 20_000, 200_000, 10, 10]
    bodies = [os.urandom(size) for size in sizes]
    arrived = await arrive(journal, *(record(str(number), body=body) for number, body in enumerate(bodies)))
    ids = [each.id for each in arrived]
    assert rows(tmp_path, "SELECT event_id FROM bodies") == [(ids[3],), (ids[4],)]
    assert rows(tmp_path, "SELECT first, last FROM bundles") == [(ids[0], ids[2]), (ids[5], ids[6])]
    assert [stored and stored.body for stored in [await journal.load(each) for each in ids]] == bodies


@pytest_twisted.ensureDeferred
async def test_a_body_that_is_kept_late_lies_apart_from_those_around_it(journal: Journal) -> None:
    arrived = await arrive(journal, record("a"), record("b", subscribers=()), record("c"))
    again = await outcome(journal.append, record("b"))
    assert (again.status, again.id) == ("again", arrived[1].id)
    stored = [await journal.load(each.id) for each in arrived]
    assert [each and each.body for each in stored] == [BODY + name for name in (b"a", b"b", b"c")]


@pytest_twisted.ensureDeferred
async def test_damage_where_bodies_lie_together_is_told_for_each_of_them(journal: Journal, tmp_path: Path) -> None:
    arrived = await arrive(journal, *(record(name, body=os.urandom(20_000)) for name in "abc"))
    ((whole,),) = rows(tmp_path, "SELECT bodies FROM bundles")
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in (0, 10, 30_000)]
    for damaged in (*changed, whole[:-1]):
        with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
            connection.execute("UPDATE bundles SET bodies = ?", (damaged,))
        connection.close()
        for each in arrived:
            with pytest.raises(Permanent, match=f"the body of delivery {each.id} is damaged"):
                await journal.load(each.id)


def change(tmp_path: Path, how: Callable[[bytes], bytes]) -> None:
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        ((stored,),) = connection.execute("SELECT body FROM bodies").fetchall()
        connection.execute("UPDATE bodies SET body = ?", (how(stored),))
    connection.close()
