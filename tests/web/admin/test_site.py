"""The admin side as a site: clients that hang up, and requests that never end."""

from __future__ import annotations

import pytest_twisted
from admin_server import ECHO, Serve
from log_capture import warnings_logged
from twisted.internet.defer import Deferred

from stackit import AdminRequest, RequestHead, Response, Route
from stackit.http.server.site import Limits


@pytest_twisted.ensureDeferred
async def test_the_answer_to_a_client_that_hung_up_is_dropped_and_the_work_goes_on(serve: Serve) -> None:
    started: Deferred[None] = Deferred()
    go_on: Deferred[None] = Deferred()
    ended: Deferred[None] = Deferred()

    async def slow(_request: AdminRequest) -> Response:
        started.callback(None)
        await go_on
        ended.callback(None)
        return Response(body="for nobody")

    server = await serve([Route("GET", "/slow", slow), *ECHO])
    reader = await server.connect()
    reader.transport.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await started
    reader.transport.abortConnection()
    await reader.lost
    assert (await server.ask("GET", "/metrics")).status == 200
    go_on.callback(None)
    await ended
    assert (await server.ask("GET", "/metrics")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_refused_request_that_came_by_a_proxy_is_logged_with_its_client(serve: Serve) -> None:
    def client_of(head: RequestHead) -> str | None:
        return head.headers[b"x-forwarded-for"][0].decode() if b"x-forwarded-for" in head.headers else None

    server = await serve(ECHO, token="t0ken-of-the-admin-side", client_of=client_of)
    with warnings_logged() as events:
        for headers in ((), ("X-Forwarded-For: 203.0.113.9",)):
            assert (await server.ask("GET", "/metrics", *headers)).status == 401
    assert [event["client"] for event in events] == ["127.0.0.1", "203.0.113.9"]


@pytest_twisted.ensureDeferred
async def test_requests_that_never_end_leave_room_for_those_of_other_routes(serve: Serve) -> None:
    waiting: list[Deferred[Response]] = []

    def hang(_request: AdminRequest) -> Deferred[Response]:
        waiting.append(Deferred())
        return waiting[-1]

    hung = [Route("POST", f"{{prefix}}/hung/{number}/{{name}}", hang) for number in range(4)]
    server = await serve([*hung, *ECHO], limits=Limits(connections=32, memory=2**20))
    held = []
    for number in range(100):
        reader = await server.connect()
        path = f"/api/hung/{number % 4}/{number}"
        reader.transport.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Stackit-CSRF: 1\r\n\r\n".encode())
        held.append(reader)
        assert (await server.ask("GET", "/metrics")).status == 200
    assert 16 <= len(waiting) < 32
    busy = await server.ask("POST", "/api/hung/0/x", "X-Stackit-CSRF: 1")
    assert (busy.status, busy.headers["retry-after"]) == (503, "5")
    assert "come again" in busy.json["error"]
    before = len(waiting)
    for each in waiting:
        each.callback(Response(body="at last"))
    reader = await server.connect()
    reader.transport.write(b"POST /api/hung/0/x HTTP/1.1\r\nHost: localhost\r\nX-Stackit-CSRF: 1\r\n\r\n")
    assert (await server.ask("GET", "/metrics")).status == 200
    assert len(waiting) == before + 1
    for one in (*held, reader):
        one.transport.abortConnection()
