"""The listener: paths, handlers, and the end."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import pytest
import pytest_twisted
from bounded_site import (
    POST,
    Echo,
    Listen,
    arrives,
)
from rawhttp import request
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stackit.http.server.site import SILENCE
from stackit.http.server.state import State


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/echo/", "/echo/x", "/ech%6f", "//echo", "/ECHO", "/echo;x", "*", "http://t/echo/", "ftp://t/echo"],
)
@pytest_twisted.ensureDeferred
async def test_only_the_exact_path_is_there(listen: Listen, path: str) -> None:
    listening = listen()
    for method in ("GET", "POST", "HEAD", "OPTIONS", "TRACE", "BREW"):
        answer = await listening.ask(request(path, method).replace(b"HEAD", b"GET"))
        assert answer.status == 404
        assert answer.json() == {"error": "not found"}
    assert set(listening.reasons) == {"not_found"}
    assert len(listening.seen) == 6


@pytest_twisted.ensureDeferred
async def test_a_query_does_not_change_the_path(listen: Listen) -> None:
    assert (await listen().ask(request("/echo?x=/y", body=b"abc"))).json() == {"hashed": 3, "read": 3}


@pytest_twisted.ensureDeferred
async def test_a_handler_may_refuse_by_the_head_and_gets_no_more_of_a_body_than_it_wants(listen: Listen) -> None:
    listening = listen()
    assert (await listening.ask(request("/plain", "GET"))).body == b"hello"
    refused = await listening.ask(request("/plain", "PUT"))
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert (await listening.ask(request("/plain", "GET", body=b"x" * 70_000))).status == 413


@pytest_twisted.ensureDeferred
async def test_a_handler_that_raises_is_reported_once_and_answers_with_a_500_that_says_nothing(
    listen: Listen, failures: list[Failure]
) -> None:
    listening = listen()
    client = await listening.connect()
    answer = await client.send(request("/broken", "GET")).answer()
    assert (answer.status, answer.json()) == (500, {"error": "internal error"})
    assert [str(each.value) for each in failures] == ["two\nlines"]
    assert (await client.send(request("/echo", body=b"")).answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_handler_that_fails_at_the_head_costs_no_more(
    listen: Listen, failures: list[Failure], echo: Echo
) -> None:
    broken: Any = echo
    broken.handle_head = None
    listening = listen()
    for body in (b"x", b"", None):
        assert (await listening.ask(request("/echo", body=body))).json() == {"error": "internal error"}
    assert len(failures) == 3


@pytest_twisted.ensureDeferred
async def test_every_answer_has_a_date(listen: Listen, clock: Clock) -> None:
    listening = listen()
    for seconds, moment in ((0, "00:00:00"), (0.9, "00:00:00"), (0.2, "00:00:01"), (3600, "01:00:01")):
        clock.advance(seconds)
        for path in ("/plain", "/nothing", "/broken", "/echo"):
            answer = await listening.ask(request(path, "GET"))
            assert answer.headers["date"] == f"Thu, 01 Jan 1970 {moment} GMT"
        assert (await listening.ask(b"nonsense\r\n")).headers["date"] == f"Thu, 01 Jan 1970 {moment} GMT"
    client = await listening.connect()
    client.send(b"P")
    await arrives(client, lambda: any(each._buffer for each in listening.site._connections))
    clock.advance(30)
    answer = await client.answer()
    assert (answer.status, answer.headers["date"]) == (408, "Thu, 01 Jan 1970 01:00:31 GMT")


@pytest_twisted.ensureDeferred
async def test_winding_down_answers_what_has_begun_to_come_and_nothing_after_it(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen()
    whole, half, silent = [await listening.connect() for _ in range(3)]
    whole.send(request("/echo", body=b"x"))
    half.send(request("/echo", body=b"xyz")[:-2])
    states = [State.READING_HEAD, State.READING_BODY, State.HANDLING]
    await arrives(half, lambda: sorted(each.state for each in listening.site._connections) == states)
    over = listening.site.wind_down(10, idle=5)
    assert listening.site.count_requests() == 2
    for client, rest in ((half, b"yz"), (silent, request("/echo", body=b""))):
        client.send(rest)
    await arrives(half, lambda: [each.state for each in listening.site._connections] == [State.HANDLING] * 3)
    assert not over.called
    echo.gate.callback(None)
    for client in (whole, half, silent):
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await client.end()
    await over


@pytest_twisted.ensureDeferred
async def test_while_it_winds_down_others_may_come_and_have_one_request_each(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen()
    first = await listening.connect()
    first.send(request("/echo", body=b"x"))
    await arrives(first, lambda: [each.state for each in listening.site._connections] == [State.HANDLING])
    over = listening.site.wind_down(10)
    late = await listening.connect()
    answer = await late.send(request("/plain", "GET")).answer()
    assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
    await late.end()
    waits = await listening.connect()
    waits.send(POST)
    await arrives(waits, lambda: len(listening.site._connections) == 2)
    echo.gate.callback(None)
    assert (await first.answer()).status == 200
    await over  # of those that were there when it began
    over = listening.site.wind_down(0, idle=0)
    assert not over.called
    waits.send(b"\r\n")
    await waits.end()
    await over


@pytest_twisted.ensureDeferred
async def test_a_connection_between_two_requests_is_told_that_the_next_is_the_last_or_closed_after_a_while(
    listen: Listen, clock: Clock
) -> None:
    listening = listen()
    busy, quiet, old, never_used = [await listening.connect() for _ in range(4)]
    await old.send(request("/plain", "GET")).answer()
    clock.advance(2)
    fresh, unused = await listening.connect(), await listening.connect()
    for client in (busy, quiet):
        assert "connection" not in (await client.send(request("/plain", "GET")).answer()).headers
    over = listening.site.wind_down(10, idle=1)
    for client in (old, never_used):
        assert await client.end() == b""  # it is silent for longer than that already
    for client in (busy, fresh):
        assert (await client.send(request("/plain", "GET")).answer()).headers["connection"] == "close"
        await client.end()
    assert not over.called
    clock.advance(1)
    for client in (quiet, unused):
        assert await client.end() == b""
    await over


@pytest_twisted.ensureDeferred
async def test_a_request_that_has_begun_while_it_winds_down_is_not_cut_for_idling(listen: Listen, clock: Clock) -> None:
    listening = listen()
    client = await listening.connect()
    await arrives(client, lambda: len(listening.site._connections) == 1)
    over = listening.site.wind_down(10, idle=1)
    client.send(POST)
    await arrives(client, lambda: listening.site.count_requests() == 1)
    clock.advance(SILENCE)
    client.send(b"Content-Length: 3\r\n\r\nx")
    await arrives(client, lambda: [each.state for each in listening.site._connections] == [State.READING_BODY])
    clock.advance(SILENCE)  # it goes on, however slowly
    client.send(b"y")
    await arrives(client, lambda: [each.arrived() for each in listening.site._connections] == [(0, 2)])
    clock.advance(SILENCE)
    answer = await client.send(b"z").answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await client.end()
    await over


@pytest_twisted.ensureDeferred
async def test_a_request_that_says_nothing_more_is_given_up_while_it_winds_down(
    listen: Listen, clock: Clock, echo: Echo
) -> None:
    echo.gate = Deferred()
    listening = listen()
    head, body, whole = [await listening.connect() for _ in range(3)]
    head.send(POST)
    body.send(request("/echo", body=b"xyz")[:-1])
    whole.send(request("/echo", body=b"x"))
    await arrives(whole, lambda: [each.state for each in listening.site._connections].count(State.HANDLING) == 1)
    await arrives(body, lambda: listening.site.count_requests() == 3)
    over = listening.site.wind_down(3600)
    clock.advance(SILENCE)
    for client in (head, body):
        assert (await client.answer()).status == 408
        await client.end()
    clock.advance(SILENCE)
    assert not over.called, "who has sent everything waits for the handler"
    echo.gate.callback(None)
    assert (await whole.answer()).status == 200
    await whole.end()
    await over


@pytest_twisted.ensureDeferred
async def test_winding_down_takes_no_longer_than_the_grace(listen: Listen, clock: Clock, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen()
    client, half = await listening.connect(), await listening.connect()
    client.send(request("/echo", body=b"x"))
    half.send(POST)
    await arrives(client, lambda: any(each.state is State.HANDLING for each in listening.site._connections))
    over: Awaitable[None] = listening.site.wind_down(10)
    clock.advance(10)
    assert await client.end() == b""
    assert (await half.answer()).status == 408
    await half.end()
    await over
    echo.gate.callback(None)


@pytest_twisted.ensureDeferred
async def test_winding_down_that_is_cancelled_gives_up_what_has_no_response(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen()
    client = await listening.connect()
    client.send(request("/echo", body=b"x"))
    await arrives(client, lambda: any(each.state is State.HANDLING for each in listening.site._connections))
    over = listening.site.wind_down(3600)
    over.cancel()
    assert await client.end() == b""
    await over
    echo.gate.callback(None)
