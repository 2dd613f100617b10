"""Whatever a plugin raises, in whatever kind of hook, is its own failure, told in one line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from types import coroutine
from typing import Any

import pytest
import pytest_twisted
from clocks import as_reactor
from dispatch_harness import Harness
from foreign_faults import FAULTS, IDS, FinalWithoutText, OddDeferred, TextRaises
from log_capture import problems_logged
from plugin_maker import ONE, ZEROS, bus_with, plugin
from threadless import no_threads
from twisted.internet.defer import Deferred, DeferredList, fail, inlineCallbacks, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent
from twisted.python.failure import Failure

from stackit import Occurrence, RefChange, RequestHead, hookimpl, on
from stackit.api import hookspecs
from stackit.api.errors import describe
from stackit.api.tracebacks import describe_with_place
from stackit.bus.backstop import Backstop
from stackit.bus.health import plugin_problems
from stackit.bus.timeouts import call, with_timeout
from stackit.journal import HandlingId

Open = Callable[..., Harness]
Make = Callable[[], BaseException]


def first_failure(failure: Failure) -> Failure:
    """What a DeferredList says that failed."""
    found: Any = failure.value
    subfailure: Failure = found.subFailure
    return subfailure


def raising(make: Make) -> dict[str, Callable[..., Any]]:
    """A handler of each kind that raises what ``make`` makes, by its name."""

    @on("issues")
    def plain(event: object) -> None:
        raise make()

    @on("issues")
    async def late(event: object) -> None:
        await succeed(None)
        raise make()

    @on("issues")
    def deferred(event: object) -> Deferred[None]:
        return fail(Failure(make()))

    @on("issues")
    @inlineCallbacks
    def callbacks(event: object) -> Generator[Deferred[None], Any, None]:
        yield succeed(None)
        raise make()

    @on("issues")
    def several(event: object) -> Deferred[Any]:
        several: Deferred[Any] = DeferredList([fail(Failure(make()))], fireOnOneErrback=True, consumeErrors=True)
        return several.addErrback(first_failure)

    @on("issues", thread=True)
    def thread(event: object) -> None:
        raise make()

    return {each.__name__: each for each in (plain, late, deferred, callbacks, several, thread)}


# -- describing -------------------------------------------------------------------


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_describing_never_raises_and_is_one_line_that_the_journal_takes(make: Make, text: str) -> None:
    assert describe(make()) == text
    assert describe(make()).encode()
    assert describe_with_place(make()) == text


def test_a_fault_is_described_with_its_place_whatever_its_class_hides() -> None:
    class Hides(Exception):
        @property
        def __traceback__(self) -> Any:  # type: ignore[override]  # it is no attribute of its own
            raise KeyboardInterrupt

    assert describe_with_place(Hides()) == describe(Hides())
    with pytest.raises(TextRaises) as raised:
        raise TextRaises
    assert describe_with_place(raised.value).startswith(f"{describe(raised.value)} (in test_a_fault_is_described_")


def test_a_long_text_is_cut_also_where_it_grows_by_what_is_escaped() -> None:
    assert len(describe(ValueError("\ud800" * 10_000))) == 500


# -- handlers ---------------------------------------------------------------------


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
@pytest_twisted.ensureDeferred
async def test_what_a_handler_raises_is_its_outcome_and_is_tried_again(make: Make, text: str, harness: Open) -> None:
    handlers = raising(make)
    seen: list[str] = []

    @on("issues")
    def good(event: Any) -> None:
        seen.append(event.delivery)

    one = harness(mine=plugin(*handlers.values()), good=good, retry_for=1)
    first = await one.take()
    second = await one.take()  # of the same repository: it waits for the first, and comes to its turn
    await one.until(lambda: len(one.outcomes("failed")) == 2 * len(handlers))
    for _ in range(2):
        await one.pass_time(1)
    await one.until(lambda: len(one.outcomes("dead")) == 2 * len(handlers))
    assert seen == ["d1", "d2"]
    for taken in (first, second):
        states = await one.states(taken)
        assert {states.pop("good:good")} == {("done", 1, None)}
        assert {(state, attempts) for state, attempts, _ in states.values()} == {("dead", 2)}
        assert all(text.partition(":")[0] in str(error) for *_, error in states.values())


@pytest_twisted.ensureDeferred
async def test_a_final_failure_is_final_whether_its_text_can_be_had_or_not(harness: Open) -> None:
    handlers = raising(FinalWithoutText)
    one = harness(mine=plugin(*handlers.values()))
    await one.take()
    await one.until(lambda: len(one.outcomes("dead")) == len(handlers))
    assert one.outcomes("failed") == []


@pytest_twisted.ensureDeferred
async def test_a_handler_may_return_anything_that_can_be_awaited(harness: Open) -> None:
    seen: list[str] = []

    class Waitable:
        def __await__(self) -> Generator[Any, Any, None]:
            yield from succeed(None).__await__()
            seen.append("waitable")

    @coroutine
    def by_hand() -> Generator[Any, Any, None]:
        yield from succeed(None).__await__()
        seen.append("by hand")

    @on("issues")
    def one(event: object) -> Any:
        return Waitable()

    @on("issues")
    def two(event: object) -> Any:
        return by_hand()

    @on("issues")
    def odd(event: object) -> Any:
        return OddDeferred()

    @on("issues", thread=True)
    def blocks(event: object) -> Any:
        return Waitable()

    opened = harness(mine=plugin(one, two, odd, blocks))
    taken = await opened.take()
    await opened.until(lambda: len(opened.outcomes("handled")) + len(opened.outcomes("failed")) == 4)
    states = await opened.states(taken)
    assert sorted(seen) == ["by hand", "waitable"]
    assert {key for key, (state, *_) in states.items() if state == "done"} == {"mine:one", "mine:two"}
    assert "no callbacks for you" in str(states["mine:odd"][2])
    assert "must do its work itself" in str(states["mine:blocks"][2])


@pytest_twisted.ensureDeferred
async def test_what_a_handler_of_ref_changes_raises_is_its_outcome(harness: Open) -> None:
    calls: list[object] = []

    @hookimpl
    def stackit_refs_changed(change: object) -> None:
        calls.append(change)
        if len(calls) == 1:
            raise TextRaises

    one = harness(mine=stackit_refs_changed)
    await one.announce("octo/widget", RefChange("refs/heads/main", ZEROS, ONE, "created"))
    await one.until(lambda: bool(one.outcomes("failed")))
    await one.pass_time(1)
    await one.until(lambda: bool(one.outcomes("handled")))
    assert len(calls) == 2


@pytest_twisted.ensureDeferred
async def test_a_deferred_that_a_thread_calls_back_ends_its_handling_in_the_reactors_thread(harness: Open) -> None:
    ended_in: list[int] = []

    @on("issues")
    def handle(event: object) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        threading.Thread(target=done.callback, args=(None,)).start()
        return done

    @hookimpl
    def stackit_observe(occurrence: Any) -> None:
        if occurrence.name == "handled":
            ended_in.append(threading.get_ident())

    one = harness(mine=plugin(handle, stackit_observe))
    for _ in range(20):
        await one.take()
    await one.until(lambda: len(one.outcomes("handled")) == 20)
    assert set(ended_in) == {threading.get_ident()}


# -- threads ----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_handler_whose_thread_cannot_be_started_has_failed_and_its_queue_goes_on(harness: Open) -> None:
    seen: list[str] = []

    @on("issues", thread=True, concurrency=1)
    def blocks(event: Any) -> None:
        seen.append(event.delivery)

    one = harness(mine=blocks)
    await one.take("octo/first")
    await one.until(lambda: len(one.outcomes("handled")) == 1)
    with no_threads():
        failing = [await one.take("octo/first"), await one.take("octo/second")]
        await one.until(lambda: len(one.outcomes("failed")) == 2)
    assert [await one.states(each) for each in failing] == [
        {"mine:blocks": ("pending", 1, "RuntimeError: can't start new thread")}
    ] * 2
    await one.take("octo/third")
    await one.until(lambda: len(one.outcomes("handled")) == 2)
    await one.pass_time(1)
    await one.until(lambda: len(one.outcomes("handled")) == 4)
    assert sorted(seen) == ["d1", "d2", "d3", "d4"]


# -- the hooks that stand beside the road of a delivery ---------------------------


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
@pytest_twisted.ensureDeferred
async def test_what_observers_and_those_who_expect_raise_changes_nothing_for_a_delivery(
    make: Make, text: str, harness: Open
) -> None:
    @hookimpl
    def stackit_observe(occurrence: object) -> None:
        raise make()

    @hookimpl
    def stackit_expect(event: object) -> None:
        raise make()

    @on("issues")
    def good(event: object) -> None: ...

    one = harness(bad=plugin(stackit_observe, stackit_expect, good))
    with problems_logged() as lines:
        for _ in range(3):
            assert (await one.take()).handled
        await one.until(lambda: len(one.outcomes("handled")) == 3)
    assert lines == [f"bad: {text}"] * 2
    assert one.journal.problems() == []


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
@pytest_twisted.ensureDeferred
async def test_whatever_one_who_is_told_of_a_commit_raises_the_journal_goes_on(
    make: Make, text: str, harness: Open, logged_failures: list[LogEvent]
) -> None:
    def told(outcome: object) -> None:
        raise make()

    one = harness()
    behind: list[object] = []
    one.journal.finish(HandlingId(1), told, at=1.0)
    one.journal.finish(HandlingId(2), behind.append, at=1.0)
    await one.journal.pending()
    assert [describe(each["log_failure"].value) for each in logged_failures] == [text]
    logged_failures.clear()
    assert behind == [None]
    assert not (await one.take()).handled
    assert one.journal.problems() == []


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_what_who_admits_raises_admits(make: Make, text: str) -> None:
    @hookimpl
    def stackit_admit(request: object) -> None:
        raise make()

    bus = bus_with(bad=stackit_admit)
    head = RequestHead(client="192.0.2.1", method=b"POST", path=b"/", headers={})
    with problems_logged() as lines:
        assert bus.first(hookspecs.stackit_admit, head) is None
    assert lines == [f"bad: {text}"]


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_what_a_health_check_raises_is_a_problem(make: Make, text: str) -> None:
    def checking(check: Callable[[], Any]) -> Any:
        return plugin(hookimpl(specname="stackit_health")(check))

    def now() -> None:
        raise make()

    async def later() -> None:
        await succeed(None)
        raise make()

    bus = bus_with(now=checking(now), later=checking(later), well=checking(lambda: None))
    found: list[list[str]] = []
    asked = Deferred.fromCoroutine(plugin_problems(bus, as_reactor(Clock())))
    asked.addCallback(found.append)
    problems = dict(each.split(": ", 1) for each in found[0])
    assert problems.keys() == {"now", "later"}
    assert all(text.partition(":")[0] in each for each in problems.values())


def test_a_health_check_that_says_no_line_is_a_problem() -> None:
    class Truth:
        def __bool__(self) -> bool:
            raise KeyboardInterrupt

    def saying(answer: object) -> Any:
        return plugin(hookimpl(specname="stackit_health")(lambda: answer))

    found: list[list[str]] = []
    bus = bus_with(a=saying(Truth()), b=saying(b"bytes"), c=saying("two\nlines"), d=saying(""), e=saying(False))
    asked = Deferred.fromCoroutine(plugin_problems(bus, as_reactor(Clock())))
    asked.addCallback(found.append)
    assert sorted(found[0]) == [
        "a: stackit_health returned Truth, expected a line or None",
        "b: stackit_health returned bytes, expected a line or None",
        "c: two lines",
    ]


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_what_a_backstop_raises_does_not_end_the_rounds(make: Make, text: str) -> None:
    rounds: list[str] = []
    said: list[Any] = []

    @hookimpl
    def stackit_backstop() -> Any:
        raise make()

    @hookimpl(specname="stackit_backstop")
    def odd() -> Any:
        return OddDeferred()

    @hookimpl(specname="stackit_backstop")
    def good() -> None:
        rounds.append("good")

    @hookimpl
    def stackit_observe(occurrence: Any) -> None:
        said.append((occurrence.plugin, occurrence.outcome, occurrence.error))

    clock = Clock()
    bus = bus_with(bad=stackit_backstop, odd=plugin(odd), good=plugin(good), watcher=stackit_observe)
    backstop = Backstop(reactor=as_reactor(clock), bus=bus, interval=60, grace=1)
    backstop.startService()
    clock.advance(60)
    Deferred.fromCoroutine(backstop.stop())
    assert rounds == ["good", "good"]
    failed = [error for plugin, outcome, error in said if (plugin, outcome) == ("bad", "failed")]
    assert len(failed) == 2
    assert text.partition(":")[0] in failed[0]
    assert len([each for each in said if each[:2] == ("odd", "failed")]) == 2


# -- bounded ----------------------------------------------------------------------


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_a_canceller_may_raise_anything(make: Make, text: str) -> None:
    def refuse(_: Deferred[None]) -> None:
        raise make()

    clock = Clock()
    bound = with_timeout(as_reactor(clock), Deferred(refuse), 5)
    outcome: list[Failure] = []
    bound.addErrback(outcome.append)
    with problems_logged() as lines:
        clock.advance(5)
    assert str(outcome[0].value) == "not finished after 5 s, cancelled"
    assert lines == [text]


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
def test_calling_foreign_code_never_raises_and_never_takes_a_fault_for_a_result(make: Make, text: str) -> None:
    def foreign() -> None:
        raise make()

    async def awaits() -> object:
        try:
            return await with_timeout(as_reactor(Clock()), call(foreign), 0)
        except Exception:  # noqa: BLE001 - one of many
            return "failed"

    results: list[object] = []
    call(foreign).addBoth(results.append)
    assert isinstance(results[0], Failure)
    Deferred.fromCoroutine(awaits()).addBoth(results.append)
    assert results[1] == "failed"


def test_an_exception_object_that_an_observer_raises_every_time_keeps_nothing_of_any() -> None:
    once = ValueError("the same every time")

    @hookimpl
    def stackit_observe(occurrence: object) -> None:
        raise once

    bus = bus_with(mine=plugin(stackit_observe))
    with problems_logged() as lines:
        for _ in range(3):
            bus.observe(Occurrence(name="notice"))
            assert once.__traceback__ is None
    assert len(lines) == 1
