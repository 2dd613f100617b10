"""Handling: whatever a handler does, its outcome is recorded, and costs no other handler anything."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest_twisted
from dispatch_harness import TIMEOUT, Harness, Open, failing, noting
from places import without_place
from plugin_maker import plugin
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater

from stackit import Event, Permanent, on

# -- outcomes --------------------------------------------------------------------


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


def _has_seen(one: Harness, count: int) -> bool:
    return len(one.seen) == count


@pytest_twisted.ensureDeferred
async def test_a_failed_event_is_tried_again_later_and_later_then_it_is_dead(harness: Open) -> None:
    one = harness(broken=failing(OSError("no route")), retry_for=7)
    taken = await one.take()
    await one.until(lambda: len(one.outcomes("failed")) == 1)
    for attempts, delay in ((1, 1.0), (2, 2.0), (3, 4.0)):
        last = one.outcomes("failed")[-1]
        assert (last.attempts, last.retry_in, without_place(last.error)) == (attempts, delay, "OSError: no route")
        await one.pass_time(delay - 0.01)
        assert len(one.seen) == attempts
        one.clock.advance(0.01)
        await one.until(partial(_has_seen, one, attempts + 1))
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


# -- time ------------------------------------------------------------------------


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


@pytest_twisted.ensureDeferred
async def test_a_handler_sees_who_signed_and_by_which_way_it_came_in_every_attempt(harness: Open) -> None:
    seen: list[tuple[str, str]] = []

    @on("*")
    def handle(event: Any) -> None:
        seen.append((event.signer, event.via))
        if len(seen) == 1:
            raise OSError("not yet")

    one = harness(mine=handle)
    taken = await one.take(signer="app:main", via="api")
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.pass_time(2.0)
    await one.until(lambda: bool(one.outcomes("handled")))
    receipt = await one.receipt(taken)
    assert [*seen, (receipt.signer, receipt.via)] == [("app:main", "api")] * 3
