"""The stream of events over a real connection to the admin side."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from admin_server import Serve
from clocks import as_reactor
from memory_journal import MemoryJournal
from memory_stream import MemoryStream, parse_events
from twisted.internet import reactor
from twisted.internet.task import Clock
from waiting import until

from stackit import BodyStream, Occurrence, Repo, RequestHead, Response, Route
from stackit.api.person import Person
from stackit.live.feed import Feed
from stackit.live.places import MOST_OF_PERSON, Places
from stackit.live.routes import live_routes
from stackit.web.admin.guard import Guard
from stackit.web.admin.streams import CHECK_EVERY, Streams
from stackit.web.sessions.session import key_of, proof_of
from stackit.web.sessions.sessions import Sessions

TOKEN = "hunter2-hunter2"


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


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_session_is_the_end_of_its_streams(serve: Serve) -> None:
    sessions = Sessions(
        MemoryJournal(as_reactor(Clock())), reactor=Clock(), now=lambda: 1000.0, idle=600, absolute=6000
    )
    feed, places = Feed(reactor=reactor, now=lambda: 0.0, redact=str), Places()
    server = await serve(live_routes(feed, places, sessions.when_ended), token=TOKEN, sessions=sessions)
    person = Person(id="token:x", name="x", role="viewer")
    readers = []
    tokens = [sessions.create(person, kind="shell", proof=lambda token: proof_of(token, TOKEN)) for _ in range(2)]
    for token in tokens:
        readers.append(await server.connect())
        readers[-1].transport.write(get("/api/v1/events", f"Authorization: Bearer {token}"))
    await until(lambda: len(feed) == 2)
    for each in (Occurrence(name="audit", target="/secret"), accepted(1)):
        feed.stackit_observe(each)
    await until(lambda: bool(events(readers[0])))
    assert [each.name for each in events(readers[0])] == ["accepted"], "a viewer does not see the audit"
    sessions.end(key_of(tokens[0]))
    await readers[0].lost
    await until(lambda: len(feed) == 1)
    readers[1].transport.loseConnection()
    await until(lambda: len(feed) == 0)
    assert not sessions._on_end, "nothing is kept for a stream that has ended"
    refused = await server.ask("GET", "/api/v1/events", f"Authorization: Bearer {tokens[0]}")
    assert refused.status == 401


def test_a_stream_ends_when_the_one_who_reads_it_may_look_no_more() -> None:
    clock, allowed = Clock(), {b"/one", b"/two"}
    streams = Streams(clock, lambda head: "viewer" if head.path in allowed else None)
    opened = {}
    for path in sorted(allowed):
        head = RequestHead(client="192.0.2.1", method=b"GET", path=path, headers={})
        opened[path] = stream = MemoryStream()
        answer = streams.watched(head, Response(stream=lambda stream: stream.write(b"begun")))
        assert answer.stream is not None
        answer.stream(stream)
    clock.advance(CHECK_EVERY)
    assert [each.reason for each in opened.values()] == [None, None]
    allowed.remove(b"/two")
    clock.advance(CHECK_EVERY)
    assert opened[b"/two"].reason == "finished"
    assert (opened[b"/one"].reason, opened[b"/one"].text) == (None, "begun")
    opened[b"/one"].end("closed")
    assert clock.getDelayedCalls() == []


def test_looking_at_the_rights_of_a_reader_keeps_no_session_alive() -> None:
    now = [1000.0]
    sessions = Sessions(
        MemoryJournal(as_reactor(Clock())), reactor=Clock(), now=lambda: now[0], idle=600, absolute=6000
    )
    guard = Guard(tokens=lambda: [TOKEN], hosts=(), sessions=sessions)
    person = Person(id="token:x", name="x", role="viewer")
    token = sessions.create(person, kind="shell", proof=lambda token: proof_of(token, TOKEN))
    headers = {b"authorization": (f"Bearer {token}".encode(),)}
    head = RequestHead(client="192.0.2.1", method=b"GET", path=b"/", headers=headers)
    for _ in range(3):
        now[0] += 250
        found = guard.asker(head, "", is_seen=False)
        assert (found is not None) is (now[0] < 1600)
