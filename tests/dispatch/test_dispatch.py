"""Dispatch: each event to each subscriber, in order, once, and again when it is asked for."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from dispatch_harness import ByHand, Open, UnorderedByHand, noting
from twisted.internet.defer import Deferred, DeferredList

from stackit import Permanent, on
from stackit.dispatch.queues import QueueLimits
from stackit.journal import EventId

LIMITS = QueueLimits()

# -- order -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_repository_is_handled_in_order_and_beside_others(harness: Open) -> None:
    hand = ByHand()
    one = harness(mine=hand)
    await one.take("octo/a")
    await one.take("Octo/A")
    await one.take("octo/b")
    await one.quiet()
    assert hand.started == ["d1", "d3"]
    hand.end("d1")
    await one.until(lambda: bool(one.outcomes("handled")))
    await one.quiet()
    assert hand.started == ["d1", "d3", "d2"]


@pytest_twisted.ensureDeferred
async def test_without_order_events_of_one_repository_are_handled_side_by_side(harness: Open) -> None:
    hand = UnorderedByHand()
    one = harness(mine=hand, concurrency=2)
    for _ in range(3):
        await one.take("octo/a")
    await one.quiet()
    assert hand.started == ["d1", "d2"]
    hand.end("d2")
    await one.quiet()
    assert hand.started == ["d1", "d2", "d3"]


@pytest_twisted.ensureDeferred
async def test_a_busy_repository_does_not_keep_a_quiet_one_waiting(harness: Open) -> None:
    hand = ByHand()
    one = harness(mine=hand, concurrency=1)
    for _ in range(50):
        await one.take("octo/busy")
    await one.take("octo/quiet", delivery="quiet")
    await one.quiet()
    while "quiet" not in hand.started:
        hand.end(hand.started[-1])
        await one.quiet()
    assert len(hand.started) <= 3


@pytest_twisted.ensureDeferred
async def test_a_stuck_repository_with_thousands_of_events_costs_neither_memory_nor_others(harness: Open) -> None:
    stuck: list[str] = []
    fine: list[str] = []

    @on("*")
    async def handle(event: Any) -> None:
        if event.repo.name == "stuck":
            stuck.append(event.delivery)
            await Deferred()
        fine.append(event.delivery)

    one = harness(mine=handle, concurrency=2)
    await DeferredList([Deferred.fromCoroutine(one.take("octo/stuck")) for _ in range(5000)], fireOnOneErrback=True)
    queue = one.dispatch._queues["mine:handle"]
    assert queue._waiting <= 2 * LIMITS.share
    for number in range(5):
        await one.take("octo/other", delivery=f"fine{number}")
    await one.until(lambda: len(fine) == 5)
    assert fine == [f"fine{number}" for number in range(5)]
    assert len(stuck) == 1
    assert queue._waiting <= 2 * LIMITS.share
    await one.quiet()
    assert one.dispatch.pending() == {"mine": 5000}


@pytest_twisted.ensureDeferred
async def test_order_is_kept_from_memory_to_the_journal_and_back(harness: Open) -> None:
    seen: list[str] = []
    gate: Deferred[None] = Deferred()

    @on("*")
    async def handle(event: Any) -> None:
        if not seen:
            seen.append(event.delivery)
            await gate
        else:
            seen.append(event.delivery)

    one = harness(mine=handle)
    total = 8 * LIMITS.share
    expected = [f"d{number + 1}" for number in range(total)]
    await DeferredList([Deferred.fromCoroutine(one.take()) for _ in range(total // 2)], fireOnOneErrback=True)
    gate.callback(None)
    for _ in range(total // 2):  # more comes while the queue reads
        await one.take()
    await one.until(lambda: len(one.outcomes("handled")) == total)
    assert seen == expected
    await one.quiet()
    queue = one.dispatch._queues["mine:handle"]
    assert (queue._groups, queue._known, queue._waiting, queue._kept_bytes) == ({}, set(), 0, 0)
    assert one.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_more_repositories_than_memory_holds_are_all_handled(harness: Open) -> None:
    seen: list[str] = []
    gate: Deferred[None] = Deferred()

    @on("*")
    async def handle(event: Any) -> None:
        if not gate.called:
            await gate
        seen.append(event.delivery)

    one = harness(mine=handle, concurrency=1)
    total = LIMITS.window + 200
    takes = [Deferred.fromCoroutine(one.take(f"octo/r{number}")) for number in range(total)]
    await DeferredList(takes, fireOnOneErrback=True)
    assert one.dispatch._queues["mine:handle"]._waiting <= LIMITS.window
    gate.callback(None)
    await one.until(lambda: len(one.outcomes("handled")) == total)
    assert len(set(seen)) == len(seen) == total
    await one.quiet()
    assert one.dispatch._queues["mine:handle"]._groups == {}


# -- again -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_was_handled_is_a_duplicate_and_runs_no_handler(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen))
    first = await one.take(delivery="x")
    await one.until(lambda: bool(one.outcomes("handled")))
    again = await one.take(delivery="x")
    await one.quiet()
    assert (again.id, again.duplicate, again.handled) == (first.id, True, True)
    assert seen == ["x"]
    assert one.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_is_in_hand_is_not_handled_a_second_time(harness: Open) -> None:
    hand = ByHand()
    one = harness(mine=hand)
    await one.take(delivery="x")
    for _ in range(3):
        await one.take(delivery="x")
    await one.quiet()
    assert hand.started == ["x"]
    assert one.dispatch.pending() == {"mine": 1}
    hand.end("x")
    await one.until(lambda: bool(one.outcomes("handled")))
    await one.quiet()
    assert hand.started == ["x"]
    assert one.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_failed_runs_again_at_once_when_it_is_delivered_again(harness: Open) -> None:
    faults: list[Exception] = [OSError("no"), Permanent("never")]

    @on("*")
    def handle(event: object) -> None:
        if faults:
            raise faults.pop(0)

    one = harness(mine=handle, retry_for=1000)
    taken = await one.take(delivery="x")
    await one.until(lambda: bool(one.outcomes("failed")))
    assert not (await one.take(delivery="x")).duplicate  # pending: goes on
    await one.until(lambda: bool(one.outcomes("dead")))
    assert one.dispatch.pending() == {"mine": 0}
    assert not (await one.take(delivery="x")).duplicate  # dead: runs again
    await one.until(lambda: bool(one.outcomes("handled")))
    assert (await one.receipt(taken)).state == "done"
    assert one.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_another_body_under_a_delivery_id_that_came_before_is_handled_and_told(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen))
    await one.take(delivery="x", mark="one")
    await one.until(lambda: len(seen) == 1)
    other = await one.take(delivery="x", mark="other")
    assert not other.duplicate
    await one.until(lambda: len(seen) == 2)
    (told,) = one.outcomes("notice")
    assert (told.delivery, told.id) == ("x", other.id)
    assert "another body" in str(told.reason)
    assert (await one.take(delivery="x", mark="other")).duplicate
    await one.take(delivery="y", mark="third")
    await one.take(delivery="x", mark="third")  # known as a replay, which is told as such
    assert [each.reason for each in one.outcomes("replayed")] == ["y"]
    assert len(one.outcomes("notice")) == 1
    await one.until(lambda: len(seen) == 4)
    await one.quiet()


@pytest_twisted.ensureDeferred
async def test_a_body_that_comes_back_under_a_new_delivery_id_is_told(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen))
    await one.take(delivery="x", mark="same")
    await one.take(delivery="y", mark="other")
    await one.take(delivery="z", mark="same")
    (replayed,) = one.outcomes("replayed")
    assert (replayed.delivery, replayed.reason, replayed.event) == ("z", "x", "issues")
    await one.until(lambda: len(seen) == 3)
    await one.quiet()


@pytest_twisted.ensureDeferred
async def test_a_dead_letter_is_replayed_to_those_named_or_to_all(harness: Open) -> None:
    seen: list[str] = []
    faults: list[Exception] = [Permanent("no")]

    @on("*")
    def handle(event: Any) -> None:
        if faults:
            raise faults.pop()
        seen.append("was dead")

    one = harness(broken=handle, fine=noting(seen))
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("dead")))
    assert await one.dispatch.replay(EventId(taken.id), ["broken:handle"]) == 1
    await one.until(lambda: len(one.outcomes("handled", "broken")) == 1)
    assert sorted(seen) == ["d1", "was dead"]
    assert await one.dispatch.replay(EventId(taken.id), None) == 2
    await one.until(lambda: len(one.outcomes("handled")) == 4)
    assert sorted(seen) == ["d1", "d1", "was dead", "was dead"]
    await one.quiet()
    assert dict(one.dispatch.pending()) == {"broken": 0, "fine": 0}
    with pytest.raises(LookupError):
        await one.dispatch.replay(EventId("99"), None)


@pytest_twisted.ensureDeferred
async def test_every_dead_letter_of_a_subscriber_is_replayed_and_counted(harness: Open) -> None:
    working = False

    @on("*", ordered=False)
    def handle(event: object) -> None:
        if not working:
            raise Permanent

    one = harness(mine=handle, concurrency=100)
    total = 700  # more than one step of the journal
    takes = [Deferred.fromCoroutine(one.take(f"octo/r{number % 7}")) for number in range(total)]
    await DeferredList(takes, fireOnOneErrback=True)
    await one.until(lambda: len(one.outcomes("dead")) == total)
    assert one.dispatch.pending() == {"mine": 0}
    working = True
    assert await one.dispatch.replay_dead("mine:handle") == total
    await one.until(lambda: len(one.outcomes("handled")) == total)
    await one.quiet()
    assert one.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_the_number_pending_is_exact_whatever_overlaps(harness: Open) -> None:
    hand = UnorderedByHand()
    one = harness(mine=hand, concurrency=1000)
    await one.close()
    two = harness(mine=hand, concurrency=1000, start=False)
    takes = [Deferred.fromCoroutine(two.take(delivery=f"x{number}")) for number in range(50)]
    recovered: Deferred[Any] = Deferred.fromCoroutine(two.dispatch.recover())
    takes += [Deferred.fromCoroutine(two.take(delivery=f"y{number}")) for number in range(50)]
    await DeferredList([*takes, recovered], fireOnOneErrback=True)
    await two.quiet()
    assert len(hand.started) == 100
    for number in range(50):
        hand.end(f"x{number}")
        replayed: Deferred[Any] = Deferred.fromCoroutine(two.dispatch.replay(EventId(str(number + 1)), None))
        again: Deferred[Any] = Deferred.fromCoroutine(two.take(delivery=f"y{number}"))
        await DeferredList([replayed, again], fireOnOneErrback=True)
    await two.quiet()
    (counted,) = two.dispatch.pending().values()
    assert {"mine:handle": counted} == await two.journal.pending()
