"""Streams of events end with the session of who watches, and show viewers nothing of what people do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest_twisted
from admin_server import ECHO
from twisted.internet import reactor
from waiting import until

from stackit import Occurrence
from stackit.api.person import Person
from stackit.config.login import LoginConfig
from stackit.live.feed import Feed
from stackit.live.places import Places
from stackit.live.routes import live_routes
from stackit.web.sessions.session import key_of


async def watching(side: Any, cookie: str) -> Any:
    reader = await side.server.connect()
    head = ["GET /api/v1/events HTTP/1.1", f"Host: localhost:{side.server.port}", cookie, "", ""]
    reader.transport.write("\r\n".join(head).encode())
    await until(lambda: b"retry:" in reader.received)
    return reader


@pytest_twisted.ensureDeferred
async def test_a_stream_ends_with_its_session_and_no_other(people: Any, token_file: Path) -> None:
    feed, places = Feed(reactor=reactor, now=lambda: 0.0, redact=str), Places()
    routes = live_routes(feed, places, lambda *given: side.sessions.when_ended(*given))  # noqa: PLW0108 - it is made later
    side = await people(token_file=token_file, routes=[*ECHO, *routes])
    first, second = await side.cookie(), await side.cookie()
    readers = [await watching(side, each) for each in (first, second)]
    side.sessions.end(key_of(first.partition("=")[2]))
    await readers[0].lost
    assert len(feed) == 1
    feed.stackit_observe(Occurrence(name="dead", delivery="d1"))
    await until(lambda: b"event: dead" in readers[1].received)
    readers[1].transport.loseConnection()
    await readers[1].lost
    await until(lambda: len(feed) == 0)


@pytest_twisted.ensureDeferred
async def test_a_stream_of_a_person_ends_when_their_role_changes(people: Any) -> None:
    feed, places = Feed(reactor=reactor, now=lambda: 0.0, redact=str), Places()
    routes = live_routes(feed, places, lambda *given: side.sessions.when_ended(*given))  # noqa: PLW0108 - it is made later
    login = LoginConfig(app="main", viewers=("octo",), client_id="Iv1")
    side = await people(login=login, routes=[*ECHO, *routes])
    person = Person(id="github:5", name="hubot (id 5)", role="operator", confirmed_at=1.0)
    token = side.sessions.create(person)
    reader = await watching(side, f"Cookie: stackit-{side.server.port}={token}")
    side.sessions.update(msgspec.structs.replace(person, confirmed_at=2.0))
    assert len(feed) == 1
    side.sessions.update(msgspec.structs.replace(person, role="viewer"))
    await reader.lost
    assert side.sessions.find(token) is not None


@pytest_twisted.ensureDeferred
async def test_what_people_do_is_told_to_operators_alone(people: Any, token_file: Path) -> None:
    feed, places = Feed(reactor=reactor, now=lambda: 0.0, redact=str), Places()
    routes = live_routes(feed, places)
    side = await people(token_file=token_file, login=LoginConfig(anonymous="read"), routes=[*ECHO, *routes])
    operator, viewer = await watching(side, await side.cookie()), await watching(side, "X-None: 1")
    feed.stackit_observe(Occurrence(name="audit", by="octocat (id 5)", client="192.0.2.7"))
    feed.stackit_observe(Occurrence(name="dead", delivery="d1"))
    for each in (operator, viewer):
        await until(lambda each=each: b"event: dead" in each.received)  # type: ignore[misc]
        each.transport.loseConnection()
        await each.lost
    assert b"192.0.2.7" in operator.received
    assert b"192.0.2.7" not in viewer.received
    await until(lambda: len(feed) == 0)
