"""The stream of events over a real connection to the admin side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest_twisted
from admin_server import Serve
from memory_stream import parse_events
from twisted.internet import reactor
from twisted.internet.task import deferLater

from stackit import BodyStream, Occurrence, Repo, Response, Route
from stackit.live.feed import Feed
from stackit.live.places import MOST_OF_PERSON, Places
from stackit.live.routes import live_routes


async def until(ready: Callable[[], bool]) -> None:
    for _ in range(5000):
        if ready():
            return
        await deferLater(reactor, 0.002)
    raise AssertionError("nothing came of it")


def made(now: float = 0.0) -> tuple[Feed, Places, list[Route]]:
    feed, places = Feed(reactor=reactor, now=lambda: now, redact=str), Places()
    return feed, places, live_routes(feed, places)


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.0", "Host: localhost", *headers, "", ""]).encode()


def accepted(number: int, repo: str = "octo/widget") -> Occurrence:
    return Occurrence(name="accepted", repo=Repo.parse(repo), delivery=f"d{number}")


def events(reader: Any) -> list[Any]:
    return parse_events(reader.received.partition(b"\r\n\r\n")[2].decode())


@pytest_twisted.ensureDeferred
async def test_a_client_watches_and_comes_back(serve: Serve) -> None:
    feed, _, routes = made()
    server = await serve(routes)
    reader = await server.connect()
    reader.transport.write(get("/api/v1/events?name=accepted&repo=octo/widget"))
    await until(lambda: b"retry: 2000\n" in reader.received)
    head = reader.received.partition(b"\r\n\r\n")[0].decode()
    assert "Content-Type: text/event-stream" in head
    assert "X-Accel-Buffering: no" in head
    assert "Cache-Control: no-store" in head
    for each in (accepted(1), accepted(2, "octo/gadget"), Occurrence(name="dead", delivery="d3"), accepted(4)):
        feed.stackit_observe(each)
    await until(lambda: len(events(reader)) == 2)
    first, last = events(reader)
    assert [first.data["delivery"], last.data["delivery"]] == ["d1", "d4"]
    reader.transport.loseConnection()
    await until(lambda: len(feed) == 0)
    assert feed.ended == {"closed": 1}
    for number, path, header in (
        (1, f"/api/v1/events?last_event_id={first.id}", "X: y"),
        (2, "/api/v1/events?last_event_id=old", f"Last-Event-ID: {first.id}"),
    ):
        again = await server.connect()
        again.transport.write(get(path, header))
        await until(lambda again=again: b"retry" in again.received)  # type: ignore[misc]
        assert [each.data["delivery"] for each in events(again)] == ["d2", "d3", "d4"], number
        again.transport.loseConnection()
    await until(lambda: len(feed) == 0)


@pytest_twisted.ensureDeferred
async def test_what_makes_no_sense_is_refused(serve: Serve) -> None:
    feed, _, routes = made()
    server = await serve(routes)
    for path in ("repo=nowhere", "name=a%20b", "last_event_id=%0a", "color=red"):
        answer = await server.ask("GET", f"/api/v1/events?{path}")
        assert answer.status == 400
        assert path.partition("=")[0] in answer.json["error"]
    assert (await server.ask("HEAD", "/api/v1/events")).status == 200
    assert len(feed) == 0


@pytest_twisted.ensureDeferred
async def test_one_stream_more_than_there_may_be(serve: Serve) -> None:
    feed, places, routes = made()
    server = await serve(routes)
    readers = [await server.connect() for _ in range(MOST_OF_PERSON)]
    for reader in readers:
        reader.transport.write(get("/api/v1/events"))
    await until(lambda: len(feed) == MOST_OF_PERSON)
    refused = await server.ask("GET", "/api/v1/events")
    assert refused.status == 429
    assert int(refused.headers["retry-after"]) > 0
    assert places.refused == {"person": 1}
    readers.pop().transport.abortConnection()
    await until(lambda: len(feed) == MOST_OF_PERSON - 1)
    reader = await server.connect()
    reader.transport.write(get("/api/v1/events"))
    await until(lambda: len(feed) == MOST_OF_PERSON)
    feed.stop()
    for each in (*readers, reader):
        await each.lost
    later = await server.ask("GET", "/api/v1/events")
    assert (later.status, later.json) == (503, {"error": "stackit stops: come again soon"})


@pytest_twisted.ensureDeferred
async def test_a_route_of_a_plugin_may_stream_and_its_fault_is_the_end_of_it(serve: Serve) -> None:
    def count(stream: BodyStream) -> None:
        for number in range(3):
            stream.write(f"{number}\n".encode())
        stream.finish()

    def broken(stream: BodyStream) -> None:
        stream.write(b"begun\n")
        raise RuntimeError("broken writer")

    server = await serve(
        [
            Route("GET", "/count", lambda _: Response(content_type="text/plain", stream=count)),
            Route("GET", "/broken", lambda _: Response(content_type="text/plain", stream=broken)),
            Route("GET", "/odd", lambda _: Response(stream="no function")),  # type: ignore[arg-type]
        ]
    )
    reader = await server.connect()
    reader.transport.write(get("/count"))
    await reader.lost
    assert reader.received.endswith(b"\r\n\r\n0\n1\n2\n")
    reader = await server.connect()
    reader.transport.write(get("/broken"))
    await reader.lost
    assert (await server.ask("GET", "/odd")).status == 500
