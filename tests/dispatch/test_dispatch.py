"""Journal to bus: each event to each subscriber, whatever the others, the journal or the clock do."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from dispatch_harness import GRACE, START, TIMEOUT, Harness
from outcomes import outcome
from plugin_maker import ONE, TWO, ZEROS, plugin
from twisted.internet.defer import CancelledError, Deferred, DeferredList, succeed
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from stackit import Event, Permanent, RefChange, hookimpl, on
from stackit.api.errors import JournalError
from stackit.dispatch.queues import QueueLimits
from stackit.journal import NewDelivery
from stackit.journal.sqlite import SQLiteJournal

LIMITS = QueueLimits()

Open = Callable[..., Harness]


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens harnesses over one state directory; what is left open is closed afterwards."""
    opened: list[Harness] = []

    def open_one(**arguments: Any) -> Harness:
        opened.append(Harness(tmp_path, **arguments))
        return opened[-1]

    yield open_one
    for each in opened:
        if each.journal._opening is not None:
            await each.close()


def noting(seen: list[str]) -> Callable[[Any], None]:
    """A handler that notes the deliveries it is given."""

    @on("*")
    def handle(event: Any) -> None:
        seen.append(event.delivery)

    return handle


class ByHand:
    """A handler whose runs end when the test says so."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.running: dict[str, Deferred[None]] = {}

    @on("*")
    def handle(self, event: Any) -> Deferred[None]:
        self.started.append(event.delivery)
        self.running[event.delivery] = Deferred()
        return self.running[event.delivery]

    def end(self, delivery: str) -> None:
        self.running.pop(delivery).callback(None)


class UnorderedByHand(ByHand):
    """The same, without order."""

    @on("*", ordered=False)
    def handle(self, event: Any) -> Deferred[None]:
        return super().handle(event)


def failing(fault: Exception) -> Callable[[Any], None]:
    @on("*")
    def handle(event: object) -> None:
        raise fault

    return handle


# -- outcomes ---------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_every_subscriber_that_wants_an_event_gets_it_once(harness: Open) -> None:
    seen: list[str] = []

    @on("issues.opened")
    def plain(event: Any) -> None:
        seen.append("plain")

    @on("issues")
    def deferred(event: Any) -> Deferred[None]:
        seen.append("deferred")
        return succeed(None)

    @on("*")
    async def coroutine(event: Any) -> None:
        seen.append("coroutine")

    @on("issues", thread=True)
    def thread(event: Any) -> None:
        seen.append("thread" if threading.current_thread() is not threading.main_thread() else "no thread")

    @on("push")
    def other(event: Any) -> None:
        seen.append("other")

    one = harness(mine=plugin(plain, deferred, coroutine, thread, other))
    taken = await one.take()
    assert (taken.duplicate, taken.handled) == (False, True)
    await one.until(lambda: len(one.outcomes("handled")) == 4)
    assert sorted(seen) == ["coroutine", "deferred", "plain", "thread"]
    assert await one.states(taken) == {
        f"mine:{name}": ("done", 1, None) for name in ("plain", "deferred", "coroutine", "thread")
    }
    assert set(one.dispatch.pending().values()) == {0}


@pytest_twisted.ensureDeferred
async def test_an_event_that_nobody_wants_is_written_down_and_that_is_all(harness: Open) -> None:
    @on("push")
    def handle(event: object) -> None: ...

    one = harness(mine=handle)
    taken = await one.take(name="star")
    assert (taken.duplicate, taken.handled) == (False, False)
    assert (await one.receipt(taken)).state == "done"


@pytest_twisted.ensureDeferred
async def test_a_handler_that_raises_and_one_that_hangs_change_nothing_for_a_third(harness: Open) -> None:
    seen: list[str] = []

    @on("*")
    async def hang(event: object) -> None:
        await Deferred()

    one = harness(broken=failing(OSError("no route")), hanging=hang, fine=noting(seen), retry_for=1)
    taken = [await one.take() for _ in range(3)]
    await one.until(lambda: len(one.outcomes("handled", "fine")) == 3)
    assert seen == ["d1", "d2", "d3"]
    await one.quiet()
    for _ in range(8):
        await one.pass_time(TIMEOUT)
    assert seen == ["d1", "d2", "d3"]
    for each in taken:
        assert await one.states(each) == {
            "broken:handle": ("dead", 2, "OSError: no route"),
            "hanging:hang": ("dead", 2, "HandlerTimeout: not finished after 60 s, cancelled"),
            "fine:handle": ("done", 1, None),
        }
    assert dict(one.dispatch.pending()) == {"broken": 0, "hanging": 0, "fine": 0}


@pytest_twisted.ensureDeferred
async def test_a_failed_event_is_tried_again_later_and_later_then_it_is_dead(harness: Open) -> None:
    one = harness(broken=failing(OSError("no route")), retry_for=7)
    taken = await one.take()
    await one.until(lambda: len(one.outcomes("failed")) == 1)
    for attempts, delay in ((1, 1.0), (2, 2.0), (3, 4.0)):
        last = one.outcomes("failed")[-1]
        assert (last.attempts, last.retry_in, last.error) == (attempts, delay, "OSError: no route")
        await one.pass_time(delay - 0.01)
        assert len(one.seen) == attempts
        one.clock.advance(0.01)
        await one.until(lambda expected=attempts + 1: len(one.seen) == expected)
    (dead,) = one.outcomes("dead")
    assert (dead.attempts, dead.event, dead.action, dead.delivery, dead.id) == (4, "issues", "opened", "d1", taken.id)
    assert await one.states(taken) == {"broken:handle": ("dead", 4, "OSError: no route")}
    assert one.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_a_credential_in_what_a_handler_failed_with_is_not_kept(harness: Open) -> None:
    one = harness(broken=failing(Permanent("401 for https://octo:hush@api.example.org/x")))
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("dead")))
    assert await one.states(taken) == {"broken:handle": ("dead", 1, "Permanent: 401 for https://***@api.example.org/x")}


@pytest_twisted.ensureDeferred
async def test_a_credential_that_is_longer_than_what_is_kept_of_an_error_is_not_kept(harness: Open) -> None:
    one = harness(broken=failing(Permanent(f"401 for https://octo:{'hush' * 200}@api.example.org/x")))
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("dead")))
    assert await one.states(taken) == {"broken:handle": ("dead", 1, "Permanent: 401 for https://***@api.example.org/x")}


@pytest_twisted.ensureDeferred
async def test_a_failure_that_is_permanent_is_dead_at_once(harness: Open) -> None:
    one = harness(broken=failing(Permanent("no such channel")))
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("dead")))
    assert await one.states(taken) == {"broken:handle": ("dead", 1, "Permanent: no such channel")}
    assert one.dispatch.pending() == {"broken": 0}
    assert one.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_a_failing_event_does_not_hold_up_later_ones_of_its_repository(harness: Open) -> None:
    seen: list[str] = []

    @on("*")
    def handle(event: Any) -> None:
        seen.append(event.delivery)
        if seen == ["d1"]:
            raise OSError

    one = harness(mine=handle)
    await one.take()
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.take()
    await one.until(lambda: bool(one.outcomes("handled")))
    assert seen == ["d1", "d2"]
    one.clock.advance(1)
    await one.until(lambda: len(one.outcomes("handled")) == 2)
    assert seen == ["d1", "d2", "d1"]


@pytest_twisted.ensureDeferred
async def test_a_handler_that_leaves_the_process_or_cancels_itself_has_failed(harness: Open) -> None:
    @on("*")
    def leave(event: object) -> None:
        raise SystemExit(1)

    @on("*")
    async def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    @on("*")
    async def cancel(event: object) -> None:
        raise CancelledError

    @on("*", thread=True)
    def leave_thread(event: object) -> None:
        raise SystemExit(2)

    one = harness(mine=plugin(leave, interrupt, cancel, leave_thread), retry_for=0)
    taken = await one.take()
    await one.until(lambda: len(one.outcomes("dead")) == 4)
    assert {key: error for key, (_, _, error) in (await one.states(taken)).items()} == {
        "mine:leave": "RuntimeError: SystemExit: 1",
        "mine:interrupt": "RuntimeError: KeyboardInterrupt",
        "mine:cancel": "CancelledError",
        "mine:leave_thread": "RuntimeError: SystemExit: 2",
    }


@pytest_twisted.ensureDeferred
async def test_what_a_handler_sets_in_its_context_no_other_sees(harness: Open) -> None:
    handled: ContextVar[str] = ContextVar("handled", default="nothing")
    seen: list[str] = []

    @on("*", concurrency=2)
    def plain(event: Event) -> None:
        seen.append(handled.get())
        handled.set(event.delivery)

    @on("*", concurrency=2)
    def deferred(event: Event) -> Deferred[None]:
        handled.set(event.delivery)
        return Deferred.fromCoroutine(coroutine(event))

    @on("*", concurrency=2)
    async def coroutine(event: Event) -> None:
        seen.append(handled.get())
        handled.set(event.delivery)
        await deferLater(one.reactor, 0)
        assert handled.get() == event.delivery

    one = harness(mine=plugin(plain, deferred, coroutine))
    for _ in range(2):
        await one.take()
    await one.until(lambda: len(one.outcomes("handled")) == 6)
    assert sorted(seen) == ["d1", "d2", "nothing", "nothing", "nothing", "nothing"]
    assert handled.get() == "nothing"


@pytest_twisted.ensureDeferred
async def test_a_payload_that_one_handler_changes_is_as_it_was_for_every_other_and_the_next_try(harness: Open) -> None:
    found: list[list[str]] = []

    @on("*")
    def spoil(event: Any) -> None:
        found.append(list(event.payload["labels"]))
        event.payload["labels"].append("spoilt")
        raise OSError

    @on("*")
    def look(event: Any) -> None:
        found.append(list(event.payload["labels"]))
        event.payload.clear()

    one = harness(a=look, b=spoil, c=look, retry_for=1)
    await one.take(labels=["bug"])
    await one.until(lambda: bool(one.outcomes("failed")))
    one.clock.advance(1)
    await one.until(lambda: bool(one.outcomes("dead")))
    await one.quiet()
    assert found == [["bug"]] * 4


# -- time -------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_handler_may_have_a_timeout_of_its_own_or_none(harness: Open) -> None:
    @on("*", timeout=5)
    async def short(event: object) -> None:
        await Deferred()

    @on("*")
    async def default(event: object) -> None:
        await Deferred()

    @on("*", timeout=0)
    async def none(event: object) -> None:
        await Deferred()

    one = harness(mine=plugin(short, default, none), retry_for=0)
    await one.take()
    await one.quiet()
    await one.pass_time(5)
    assert [each.subscriber for each in one.outcomes("dead")] == ["mine:short"]
    await one.pass_time(TIMEOUT - 5)
    assert [each.subscriber for each in one.outcomes("dead")] == ["mine:short", "mine:default"]
    assert one.outcomes("dead")[-1].seconds == TIMEOUT
    await one.pass_time(10**6)
    assert one.dispatch.pending()["mine:none"] == 1


@pytest_twisted.ensureDeferred
async def test_a_handler_that_swallows_its_cancellation_is_abandoned(harness: Open) -> None:
    seen: list[str] = []

    @on("*")
    async def stubborn(event: Any) -> None:
        seen.append(event.delivery)
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    one = harness(mine=stubborn, concurrency=1, retry_for=0)
    await one.take()
    await one.take()
    await one.quiet()
    await one.pass_time(TIMEOUT)
    assert seen == ["d1", "d2"]
    await one.pass_time(TIMEOUT)
    assert len(one.outcomes("dead")) == 2


@pytest_twisted.ensureDeferred
async def test_threads_that_hang_are_left_behind_and_bounded_and_cost_nobody_else(harness: Open) -> None:
    release, seen = threading.Event(), []

    @on("*", thread=True, ordered=False)
    def hang(event: Any) -> None:
        release.wait(30)

    @on("*", thread=True, ordered=False)
    def work(event: Any) -> None:
        seen.append(event.delivery)

    one = harness(hanging=hang, working=work, concurrency=2, retry_for=0)
    for _ in range(4):
        await one.take()
    await one.until(lambda: len(one.outcomes("handled", "working")) == 4)
    one.clock.advance(TIMEOUT)
    await one.until(lambda: len(one.outcomes("dead", "hanging")) == 4)
    assert sorted(seen) == ["d1", "d2", "d3", "d4"]
    assert [each.error.partition(":")[0] for each in one.outcomes("dead") if each.error] == [
        "HandlerTimeout",
        "HandlerTimeout",
        "ThreadsBusy",
        "ThreadsBusy",
    ]
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "stackit handler")
    release.set()


# -- order ------------------------------------------------------------------------


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


# -- start and stop ---------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_stop_lets_what_is_in_hand_finish_within_the_grace(harness: Open) -> None:
    hand = ByHand()
    one = harness(mine=hand)
    first = await one.take()
    second = await one.take()
    await one.quiet()
    stopped = Deferred.fromCoroutine(one.dispatch.stop())
    one.clock.advance(GRACE / 2)
    assert not stopped.called
    hand.end("d1")
    await stopped
    assert await one.states(first) == {"mine:handle": ("done", 1, None)}
    assert await one.states(second) == {"mine:handle": ("pending", 0, None)}
    assert hand.started == ["d1"]
    assert one.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_a_stop_leaves_what_outlives_the_grace_pending_without_counting_an_attempt(harness: Open) -> None:
    @on("*")
    async def stubborn(event: object) -> None:
        while True:
            try:
                await Deferred()
            except CancelledError:
                continue

    one = harness(hand=ByHand(), stubborn=stubborn, broken=failing(OSError("no")))
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("failed")))
    stopped = Deferred.fromCoroutine(one.dispatch.stop())
    one.clock.advance(GRACE)
    await stopped
    assert await one.states(taken) == {
        "hand:handle": ("pending", 0, None),
        "stubborn:stubborn": ("pending", 0, None),
        "broken:handle": ("pending", 1, "OSError: no"),
    }
    assert one.clock.getDelayedCalls() == []
    await one.take()  # one that was on its way in
    await one.quiet()
    assert len(one.outcomes("failed")) == 1


@pytest_twisted.ensureDeferred
async def test_what_was_pending_is_handled_after_the_start_before_what_is_new(harness: Open) -> None:
    hand = ByHand()
    one = harness(mine=hand)
    for number in range(3):
        await one.take(delivery=f"old{number}")
    await one.close()

    seen: list[str] = []
    two = harness(mine=noting(seen), start=False)
    for number in range(3):
        await two.take(delivery=f"new{number}")
    await two.dispatch.recover()
    await two.until(lambda: len(two.outcomes("handled")) == 6)
    assert seen == ["old0", "old1", "old2", "new0", "new1", "new2"]
    assert [each.subscriber for each in two.outcomes("recovered")] == ["mine"]
    assert two.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_a_retry_that_was_due_while_nothing_ran_comes_at_once_and_a_later_one_in_time(harness: Open) -> None:
    one = harness(mine=failing(OSError("no")), retry_for=100)
    await one.take()
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.close()

    seen: list[str] = []
    two = harness(mine=noting(seen), start=False)
    two.clock.rightNow = START + 0.5
    await two.dispatch.recover()
    await two.quiet()
    assert seen == []
    await two.pass_time(0.5)
    assert seen == ["d1"]


@pytest_twisted.ensureDeferred
async def test_a_subscriber_that_is_gone_keeps_its_events_and_is_listed(harness: Open) -> None:
    one = harness(mine=ByHand(), other=ByHand())
    await one.take()
    await one.close()

    seen: list[str] = []
    two = harness(other=noting(seen))
    await two.until(lambda: bool(two.outcomes("notice")))
    (notice,) = two.outcomes("notice")
    assert notice.reason == "1 events wait for mine:handle, which is not loaded"
    await two.until(lambda: bool(two.outcomes("handled")))
    assert dict(two.dispatch.pending()) == {"mine:handle": 1, "other": 0}
    await two.close()

    back: list[str] = []
    three = harness(mine=noting(back), other=noting(seen))
    await three.until(lambda: bool(three.outcomes("handled")))
    assert (back, seen) == (["d1"], ["d1"])


@pytest_twisted.ensureDeferred
async def test_ref_changes_of_any_bytes_reach_their_subscribers_also_after_a_restart(harness: Open) -> None:
    changes = (
        RefChange("refs/heads/main", ZEROS, ONE, "created"),
        RefChange("refs/heads/caf\udce9", ONE, TWO, "updated", forced=True),
    )
    told: list[Any] = []

    def telling(fault: Exception | None) -> Any:
        @hookimpl
        def stackit_refs_changed(change: Any) -> None:
            told.append(change)
            if fault is not None:
                raise fault

        return plugin(stackit_refs_changed)

    one = harness(mine=telling(OSError("later")))
    await one.announce("Octo/Widget", *changes)
    await one.until(lambda: bool(one.outcomes("failed")))
    assert one.outcomes("refs_changed")[0].changes == changes
    assert await one.journal.announced("octo/widget") == {"refs/heads/main": ONE, "refs/heads/caf\udce9": TWO}
    await one.close()

    two = harness(mine=telling(None))
    two.clock.advance(1)
    await two.until(lambda: bool(two.outcomes("handled")))
    first, second = told
    assert first.changes == second.changes == changes
    assert (str(second.repo), second.cause, second.id, second.received_at) == ("Octo/Widget", "push", first.id, START)


@pytest_twisted.ensureDeferred
async def test_an_event_whose_body_is_gone_is_done_with(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=ByHand())
    taken = await one.take()
    await one.close()
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        connection.execute("DELETE FROM bodies")
    connection.close()

    seen: list[str] = []
    two = harness(mine=noting(seen))
    await two.until(lambda: True)
    await two.quiet()
    assert seen == []
    assert (await two.receipt(taken)).state == "done"
    assert two.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_an_event_that_cannot_be_read_back_has_failed_and_holds_up_no_other(
    harness: Open, tmp_path: Path
) -> None:
    @hookimpl
    def stackit_refs_changed(change: object) -> Deferred[None]:
        return Deferred()

    one = harness(mine=stackit_refs_changed)
    await one.announce("octo/a", RefChange("refs/heads/main", ZEROS, ONE, "created"))
    await one.close()
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        connection.execute("UPDATE bodies SET body = 'null'")
    connection.close()

    two = harness(mine=stackit_refs_changed, retry_for=0)
    await two.until(lambda: bool(two.outcomes("dead")))
    (dead,) = two.outcomes("dead")
    assert dead.error is not None
    assert dead.error.startswith("TypeError")


@pytest_twisted.ensureDeferred
async def test_an_event_whose_body_is_damaged_is_a_dead_letter_at_once(harness: Open, tmp_path: Path) -> None:
    one = harness(mine=ByHand())
    await one.take()
    await one.close()
    with sqlite3.connect(tmp_path / "state" / "journal.sqlite3") as connection:
        connection.execute("UPDATE bodies SET body = substr(body, 1, length(body) - 8)")
    connection.close()

    two = harness(mine=noting([]))
    await two.until(lambda: bool(two.outcomes("dead")))
    (dead,) = two.outcomes("dead")
    assert "is damaged in the journal" in (dead.error or "")


# -- again ------------------------------------------------------------------------


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
    assert await one.dispatch.replay(taken.id, ["broken:handle"]) == 1
    await one.until(lambda: len(one.outcomes("handled", "broken")) == 1)
    assert sorted(seen) == ["d1", "was dead"]
    assert await one.dispatch.replay(taken.id, None) == 2
    await one.until(lambda: len(one.outcomes("handled")) == 4)
    assert sorted(seen) == ["d1", "d1", "was dead", "was dead"]
    await one.quiet()
    assert dict(one.dispatch.pending()) == {"broken": 0, "fine": 0}
    with pytest.raises(LookupError):
        await one.dispatch.replay("99", None)


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
    recovered = Deferred.fromCoroutine(two.dispatch.recover())
    takes += [Deferred.fromCoroutine(two.take(delivery=f"y{number}")) for number in range(50)]
    await DeferredList([*takes, recovered], fireOnOneErrback=True)
    await two.quiet()
    assert len(hand.started) == 100
    for number in range(50):
        hand.end(f"x{number}")
        replayed = Deferred.fromCoroutine(two.dispatch.replay(str(number + 1), None))
        again = Deferred.fromCoroutine(two.take(delivery=f"y{number}"))
        await DeferredList([replayed, again], fireOnOneErrback=True)
    await two.quiet()
    (counted,) = two.dispatch.pending().values()
    assert {"mine:handle": counted} == await two.journal.pending()


# -- trouble ----------------------------------------------------------------------


class Troubled(SQLiteJournal):
    """A journal whose every operation of some kinds fails while there is trouble."""

    trouble: frozenset[str] = frozenset()
    refused = 0

    def _may(self, what: str) -> None:
        if what in self.trouble:
            self.refused += 1
            raise JournalError("the journal cannot write: disk full")

    def _refuses(self, what: str, done: Any) -> bool:
        try:
            self._may(what)
        except JournalError:
            done(Failure())
            return True
        return False

    def append(self, record: Any, done: Any) -> None:
        if not self._refuses("append", done):
            super().append(record, done)

    def finish(self, handling: int, done: Any, *, at: float) -> None:
        if not self._refuses("finish", done):
            super().finish(handling, done, at=at)

    async def fail(self, *args: Any, **kwargs: Any) -> None:
        self._may("fail")
        await super().fail(*args, **kwargs)

    async def due(self, *args: Any, **kwargs: Any) -> Any:
        self._may("read")
        return await super().due(*args, **kwargs)

    async def due_groups(self, *args: Any, **kwargs: Any) -> Any:
        self._may("read")
        return await super().due_groups(*args, **kwargs)


@pytest_twisted.ensureDeferred
async def test_while_the_journal_cannot_write_outcomes_wait_and_no_handler_runs_twice(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), broken=failing(Permanent("no")), journal=Troubled)
    await one.quiet()
    journal: Any = one.journal
    journal.trouble = {"finish", "fail"}
    taken = await one.take()
    await one.quiet()
    for _ in range(3):
        await one.pass_time(1)
    assert journal.refused == 8
    assert one.outcomes("handled") == one.outcomes("dead") == []
    assert (await one.receipt(taken)).state == "pending"
    journal.trouble = frozenset()
    await one.pass_time(1)
    assert await one.states(taken) == {"mine:handle": ("done", 1, None), "broken:handle": ("dead", 1, "Permanent: no")}
    assert seen == ["d1"]
    assert one.outcomes("handled")[0].seconds == 0  # the handler's own time
    assert dict(one.dispatch.pending()) == {"mine": 0, "broken": 0}


@pytest_twisted.ensureDeferred
async def test_a_delivery_that_cannot_be_written_down_reaches_no_handler(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), journal=Troubled)
    journal: Any = one.journal
    journal.trouble = {"append"}
    with pytest.raises(JournalError):
        await one.take()
    await one.quiet()
    assert seen == []
    assert one.dispatch.pending() == {"mine": 0}


@pytest_twisted.ensureDeferred
async def test_what_is_in_the_journal_though_it_was_not_confirmed_is_handed_on(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen))
    await one.take()
    await one.quiet()
    there = NewDelivery(
        hook="7",
        delivery="d2",
        event="issues",
        action="opened",
        repo="Octo/Widget",
        received_at=START,
        digest=b"2",
        body=b'{"action":"opened","issue":{},"repository":{"full_name":"Octo/Widget"}}',
        subscribers=("mine:handle",),
    )
    await outcome(one.journal.append, there)  # and nobody was told
    await one.quiet()
    assert seen == ["d1"]
    one.dispatch.look_again()
    await one.quiet()
    assert seen == ["d1", "d2"]
    assert dict(one.dispatch.pending()) == {"mine": 0}


def expecting(seen: list[str]) -> Any:
    @hookimpl
    def stackit_expect(event: Event) -> None:
        seen.append(event.delivery)

    return plugin(stackit_expect)


@pytest_twisted.ensureDeferred
async def test_an_event_is_expected_before_it_is_durable_where_somebody_will_handle_it(harness: Open) -> None:
    expected: list[str] = []

    @on("issues")
    def handle(event: Event) -> None:
        """Handled."""

    one = harness(mine=handle, ready=expecting(expected), journal=Troubled)
    journal: Any = one.journal
    journal.trouble = {"append"}
    with pytest.raises(JournalError):
        await one.take()
    assert expected == ["d1"]
    journal.trouble = set()
    await one.take(name="star", action="created")
    assert expected == ["d1"]


@pytest_twisted.ensureDeferred
async def test_where_replays_reach_nobody_no_event_is_expected(harness: Open) -> None:
    expected: list[str] = []
    one = harness(mine=noting([]), ready=expecting(expected), refuse_replays=True)
    await one.take()
    assert expected == []


@pytest_twisted.ensureDeferred
async def test_while_the_journal_cannot_be_read_retries_wait_and_none_is_forgotten(harness: Open) -> None:
    faults: list[Exception] = [OSError("no")]
    seen: list[str] = []

    @on("*")
    def handle(event: Any) -> None:
        if faults:
            raise faults.pop()
        seen.append(event.delivery)

    one = harness(mine=handle, journal=Troubled)
    await one.take()
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.quiet()
    journal: Any = one.journal
    journal.trouble = {"read"}
    for _ in range(5):
        await one.pass_time(1)
    assert seen == []
    journal.trouble = frozenset()
    await one.pass_time(1)
    await one.quiet()
    assert seen == ["d1"]


@pytest.mark.parametrize("trouble", [{"finish", "fail", "read"}, {"finish", "fail"}, {"read"}])
@pytest_twisted.ensureDeferred
async def test_a_stop_amid_trouble_ends_and_leaves_nothing_behind(harness: Open, trouble: set[str]) -> None:
    one = harness(mine=ByHand(), broken=failing(OSError("no")), journal=Troubled, retry_for=100, start=False)
    journal: Any = one.journal
    journal.trouble = trouble
    taken = await one.take()
    recovered = Deferred.fromCoroutine(one.dispatch.recover())
    await one.quiet()
    await one.pass_time(1)
    stopped = Deferred.fromCoroutine(one.dispatch.stop())
    one.clock.advance(GRACE)
    await stopped
    assert recovered.called
    assert {state for state, _, _ in (await one.states(taken)).values()} == {"pending"}
    assert one.clock.getDelayedCalls() == []


@pytest_twisted.ensureDeferred
async def test_a_clock_that_is_set_back_delays_an_event_and_loses_none(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), start=False)
    taking = Deferred.fromCoroutine(one.take())  # left to the journal, as long as older events may be in it
    one.clock.rightNow = START - 100
    await taking
    await one.quiet()
    assert seen == []
    await one.pass_time(100)
    assert seen == ["d1"]


@pytest_twisted.ensureDeferred
async def test_thousands_of_events_for_a_plain_function_are_handled(harness: Open) -> None:
    seen: list[str] = []
    one = harness(mine=noting(seen), concurrency=16)
    total = 3000
    takes = [Deferred.fromCoroutine(one.take(f"octo/r{number % 40}")) for number in range(total)]
    await DeferredList(takes, fireOnOneErrback=True)
    await one.until(lambda: len(one.outcomes("handled")) == total)
    assert len(seen) == len(set(seen)) == total
    await one.quiet()
    assert one.dispatch.pending() == {"mine": 0}
    assert one.dispatch._queues["mine:handle"]._groups == {}
