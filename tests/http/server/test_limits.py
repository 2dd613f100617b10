"""Many connections at once, and the memory of their bodies."""

from __future__ import annotations

import hashlib

import pytest_twisted
from bounded_site import (
    POST,
    Echo,
    Listen,
    arrives,
    crowd_of,
)
from rawhttp import request
from twisted.internet.defer import Deferred

from stackit.http.server.state import State


@pytest_twisted.ensureDeferred
async def test_only_so_many_connections_take_much_at_once(listen: Listen) -> None:
    listening = listen()
    body = b"x" * 20_000
    begun = request("/spacious", body=body)[:-10_000]
    clients = await crowd_of(listening, 20, begun)
    await arrives(clients[0], lambda: all(each.held == 10_000 for each in listening.site.limiter))
    assert len(listening.site.large_readers) == 16
    clients[0].transport.abortConnection()
    await arrives(clients[1], lambda: len(listening.site.large_readers) == 15)
    for client in clients[1:]:
        assert (await client.send(body[:10_000]).answer()).json() == hashlib.sha256(body).hexdigest()
    assert (await listening.ask(POST + b"Content-Length: 20000\r\n\r\n" + body)).status == 413
    assert not listening.site.large_readers


@pytest_twisted.ensureDeferred
async def test_slow_clients_do_not_keep_a_good_one_from_its_answer(listen: Listen) -> None:
    listening = listen(connections=20)
    slow = await crowd_of(listening, 60, POST + b"Content-Length: 9\r\n")
    assert (await listening.ask(request("/echo", body=b"abc"))).json()["read"] == 3
    first = await slow[0].answer()
    assert (first.status, first.headers["retry-after"]) == (503, "5")
    assert set(listening.reasons) == {"overload"}
    assert len(listening.reasons) == 41


@pytest_twisted.ensureDeferred
async def test_the_address_with_the_most_connections_loses_one(listen: Listen) -> None:
    listening = listen(connections=10)
    (good,) = await crowd_of(listening, 1, POST + b"Content-Length: 3\r\n\r\n", "127.0.0.1")
    await crowd_of(listening, 40, POST, "127.0.0.2")
    assert (await good.send(b"abc").answer()).json()["read"] == 3


@pytest_twisted.ensureDeferred
async def test_a_whole_request_is_never_evicted(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen(connections=3)
    busy = await crowd_of(listening, 3, request("/echo", body=b"x"))
    await arrives(busy[0], lambda: all(each.state is State.HANDLING for each in listening.site._connections))
    late = await listening.connect()
    answer = await late.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert await late.end() == b""
    assert listening.reasons == ["overload"]
    echo.gate.callback(None)
    assert [(await each.answer()).status for each in busy] == [200, 200, 200]


@pytest_twisted.ensureDeferred
async def test_bodies_in_memory_are_bounded_and_the_greediest_address_pays(listen: Listen) -> None:
    listening = listen(memory=3000)
    head = POST + b"Content-Length: 1000\r\n\r\n"
    (good,) = await crowd_of(listening, 1, head + b"x" * 900, "127.0.0.1")
    await arrives(good, lambda: listening.site.limiter.held == 900)
    greedy = await crowd_of(listening, 2, head + b"x" * 999, "127.0.0.2")
    await arrives(good, lambda: listening.site.limiter.held == 2898)
    (third,) = await crowd_of(listening, 1, head + b"x" * 500, "127.0.0.2")
    assert (await greedy[0].answer()).status == 503
    assert listening.site.limiter.held <= 3000
    assert (await good.send(b"x" * 100).answer()).json()["read"] == 1000
    assert (await third.send(b"x" * 500).answer()).json()["read"] == 1000
    assert listening.reasons == ["overload"]


@pytest_twisted.ensureDeferred
async def test_nobody_goes_for_memory_that_whole_requests_hold(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    listening = listen(memory=3000)
    head = POST + b"Content-Length: 1000\r\n\r\n"
    busy = await crowd_of(listening, 3, head + b"x" * 1000, "127.0.0.2")
    await arrives(busy[0], lambda: all(each.state is State.HANDLING for each in listening.site._connections))
    idle = await crowd_of(listening, 3, b"", "127.0.0.1") + await crowd_of(listening, 3, head, "127.0.0.2")
    (late,) = await crowd_of(listening, 1, head + b"x", "127.0.0.3")
    assert (await late.answer()).status == 503
    assert len(listening.site.limiter) == 9
    assert listening.reasons == ["overload"]
    echo.gate.callback(None)
    echo.gate = None
    assert [(await each.answer()).status for each in busy] == [200, 200, 200]
    assert (await idle[0].send(request("/echo", body=b"abc")).answer()).json()["read"] == 3
    assert (await idle[3].send(b"x" * 1000).answer()).json()["read"] == 1000


@pytest_twisted.ensureDeferred
async def test_nothing_is_held_once_requests_are_answered_or_gone(listen: Listen) -> None:
    listening = listen()
    await listening.ask(request("/echo", body=b"x" * 1000))
    client = await listening.connect()
    client.send(POST + b"Content-Length: 1000\r\n\r\nxxx")
    await arrives(client, lambda: listening.site.limiter.held == 3)
    client.transport.abortConnection()
    await arrives(client, lambda: listening.site.limiter.held == 0)
