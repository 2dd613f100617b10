"""What is kept and told of a handler's failure: the place, the traceback, and the traceback once for each kind."""

from __future__ import annotations

import threading
from typing import Any

import pytest_twisted
from byte_server import ByteServer
from dispatch_harness import TIMEOUT, Harness, Open
from plugin_maker import plugin
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, succeed
from twisted.web.client import Agent

from stackit import Permanent, StackitError, on
from stackit.api.events import DeliveryResult
from stackit.journal import EventId


def step() -> None:
    raise OSError("no route")


async def tracebacks(one: Harness, taken: DeliveryResult) -> dict[str, str]:
    return await one.journal.tracebacks(EventId(taken.id))


async def errors(one: Harness, taken: DeliveryResult) -> dict[str, str]:
    return {each.subscriber: str(each.error) for each in (await one.receipt(taken)).handlings}


@pytest_twisted.ensureDeferred
async def test_a_failure_has_its_place_and_its_traceback_however_the_handler_runs(harness: Open) -> None:
    @on("*")
    def plain(event: object) -> None:
        step()

    @on("*")
    async def coroutine(event: object) -> None:
        await succeed(None)
        step()

    @on("*")
    def deferred(event: object) -> Deferred[None]:
        return succeed(None).addCallback(lambda _: step())

    @on("*", thread=True)
    def thread(event: object) -> None:
        step()

    one = harness(mine=plugin(plain, coroutine, deferred, thread), retry_for=0)
    taken = await one.take()
    await one.until(lambda: len(one.outcomes("dead")) == 4)
    line = step.__code__.co_firstlineno + 1
    assert set((await errors(one, taken)).values()) == {f"OSError: no route (in step, test_faults.py:{line})"}
    kept = await tracebacks(one, taken)
    assert kept.keys() == {f"mine:{name}" for name in ("plain", "coroutine", "deferred", "thread")}
    for key, text in kept.items():
        lines = text.split("\n")
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[-2:] == ['    raise OSError("no route")', "OSError: no route"]
        assert all(__file__ in each for each in lines if each.startswith("  File")), text
        assert key == "mine:deferred" or f"in {key.removeprefix('mine:')}" in lines[1]
    assert {each.subscriber: each.traceback for each in one.outcomes("dead")} == kept


@pytest_twisted.ensureDeferred
async def test_the_traceback_is_told_once_for_each_kind_and_kept_for_every_failure(harness: Open) -> None:
    @on("*")
    def handle(event: Any) -> None:
        if event.delivery == "d3":
            raise Permanent("another kind")
        step()

    one = harness(mine=handle, retry_for=1)
    taken = [await one.take(f"octo/{number}") for number in range(3)]
    await one.until(lambda: len(one.outcomes("failed")) == 2 and bool(one.outcomes("dead")))
    for _ in range(2):
        await one.pass_time(1)
    await one.until(lambda: len(one.outcomes("dead")) == 3)
    told = [each.traceback for each in one.seen if each.traceback]
    assert len(told) == 2
    assert sum("OSError: no route" in each for each in told) == 1
    assert sum("Permanent: another kind" in each for each in told) == 1
    for each in taken:
        assert (await tracebacks(one, each)).keys() == {"mine:handle"}


@pytest_twisted.ensureDeferred
async def test_the_traceback_goes_when_a_later_attempt_succeeds(harness: Open) -> None:
    calls: list[str] = []

    @on("*")
    def handle(event: Any) -> None:
        calls.append(event.delivery)
        if len(calls) == 1:
            step()

    one = harness(mine=handle)
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("failed")))
    assert (await tracebacks(one, taken)).keys() == {"mine:handle"}
    await one.pass_time(1)
    await one.until(lambda: bool(one.outcomes("handled")))
    assert await tracebacks(one, taken) == {}


@pytest_twisted.ensureDeferred
async def test_a_handler_that_outlives_its_timeout_is_told_where_it_waited(harness: Open) -> None:
    begun, forever = threading.Event(), threading.Event()

    @on("*")
    async def waits(event: object) -> None:
        await Deferred()

    @on("*", thread=True)
    def hangs(event: object) -> None:
        begun.set()
        forever.wait(60)

    one = harness(mine=plugin(waits, hangs), retry_for=0)
    taken = await one.take()
    while not begun.is_set():
        await one.quiet()
    await one.pass_time(TIMEOUT)
    await one.until(lambda: len(one.outcomes("dead")) == 2)
    forever.set()
    said = await errors(one, taken)
    waited = waits.__code__.co_firstlineno + 2
    assert (
        said["mine:waits"] == f"HandlerTimeout: not finished after 60 s, cancelled (in waits, test_faults.py:{waited})"
    )
    assert said["mine:hangs"].startswith(
        "HandlerTimeout: not finished after 60 s, cancelled (in hangs, test_faults.py:"
    )
    assert "    await Deferred()" in (await tracebacks(one, taken))["mine:waits"]


@pytest_twisted.ensureDeferred
async def test_a_line_for_the_operator_has_no_place_and_its_traceback_is_no_news(harness: Open) -> None:
    @on("*")
    def handle(event: object) -> None:
        raise StackitError("the remote refuses access: give it a token")

    one = harness(mine=handle, retry_for=0)
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("dead")))
    assert await errors(one, taken) == {"mine:handle": "StackitError: the remote refuses access: give it a token"}
    assert one.outcomes("dead")[0].traceback is None
    assert "in handle" in (await tracebacks(one, taken))["mine:handle"]


@pytest_twisted.ensureDeferred
async def test_a_request_of_treq_that_fails_says_what_happened_and_for_whom(harness: Open) -> None:
    @on("*")
    async def handle(event: object) -> None:
        await client.get(f"http://127.0.0.1:{server.port}/")

    one = harness(mine=handle, retry_for=0)
    server = ByteServer(one.reactor)
    server.answers.append(lambda peer: peer.transport.abortConnection())
    client = HTTPClient(Agent(one.reactor))  # type: ignore[arg-type]  # zope
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("dead")))
    await server.stop()
    line = handle.__code__.co_firstlineno + 2
    said = (await errors(one, taken))["mine:handle"]
    assert said.startswith("ResponseNeverReceived: ConnectionLost: Connection to the other side was lost ")
    assert said.endswith(f" (in handle, test_faults.py:{line})")
    assert "twisted.python.failure.Failure" not in (await tracebacks(one, taken))["mine:handle"]


@pytest_twisted.ensureDeferred
async def test_no_secret_is_kept_in_a_traceback(harness: Open) -> None:
    @on("*")
    def handle(event: object) -> None:
        raise OSError("https://octo:hush@api.example.org/x")

    one = harness(mine=handle, retry_for=0)
    taken = await one.take()
    await one.until(lambda: bool(one.outcomes("dead")))
    (text,) = (await tracebacks(one, taken)).values()
    assert "hush" not in text
    assert "https://***@api.example.org/x" in text


@pytest_twisted.ensureDeferred
async def test_an_exception_object_that_is_raised_again_and_again_holds_nothing_of_the_times_before(
    harness: Open,
) -> None:
    once, cause = Permanent("the same every time"), ValueError("its cause")

    def fails() -> None:
        try:
            raise cause
        except ValueError:
            raise once from cause

    @on("*")
    def plain(event: object) -> None:
        fails()

    @on("*")
    async def coroutine(event: object) -> None:
        await succeed(None)
        fails()

    @on("*")
    def deferred(event: object) -> Deferred[None]:
        return succeed(None).addCallback(lambda _: fails())

    @on("*", thread=True)
    def thread(event: object) -> None:
        fails()

    one = harness(mine=plugin(plain, coroutine, deferred, thread))
    for outcomes in (4, 8, 12):
        await one.take()
        await one.until(lambda: len(one.outcomes("dead")) == outcomes)  # noqa: B023 - called before the next turn
        assert once.__traceback__ is None
        assert cause.__traceback__ is None
