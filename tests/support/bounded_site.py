"""Handlers for a bounded site, and how its tests wait for what they sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from rawhttp import PATIENCE, Client, Listening
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from stackit.http.messages import BodyStream, RequestHead, Response
from stackit.http.server.interfaces import SmallBodySink
from stackit.http.server.refusals import method_not_allowed

POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

Listen = Callable[..., Listening]


class Sink:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.keep = True
        self.throttled = False
        self.size = 0
        self.pieces = 0

    def update(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.pieces += 1


class Echo:
    """Answers with how much of a body came, in pieces and in all; ``gate`` makes it wait."""

    def __init__(self) -> None:
        self.gate: Deferred[None] | None = None
        self.sinks: list[Sink] = []

    def handle_head(self, head: RequestHead, length: int | None) -> Any:
        self.sinks.append(Sink(1000))
        return self.sinks[-1]

    def handle_request(self, request: Any) -> None:
        response = Response(body={"hashed": request.body_sink.size, "read": len(request.body)})
        if self.gate is None:
            request.answer(response)
        else:
            self.gate.addCallback(lambda _: request.answer(response))


class Spacious:
    """Answers with the hash of a body of any size."""

    def handle_head(self, head: RequestHead, length: int | None) -> Any:
        return Sink(2**22)

    def handle_request(self, request: Any) -> None:
        request.answer(Response(body=hashlib.sha256(request.body).hexdigest()))


class Constant:
    """Answers GET and HEAD with the same text."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def handle_head(self, head: RequestHead, length: int | None) -> Any:
        if head.method not in (b"GET", b"HEAD"):
            return method_not_allowed("GET, HEAD")
        return SmallBodySink()

    def handle_request(self, request: Any) -> None:
        request.answer(Response(body=self.body, content_type="text/plain"))


LARGE = bytes(range(256)) * 40_000
"""More than a socket takes at once."""


class Told:
    """Answers with what the head says."""

    def handle_head(self, head: RequestHead, length: int | None) -> Any:
        return SmallBodySink()

    def handle_request(self, request: Any) -> None:
        head = request.head
        request.answer(Response(body={"path": head.path.decode(), "host": head.headers[b"host"][0].decode()}))


class Streaming(Told):
    """Answers with a stream, which it keeps, together with the reasons for which streams ended."""

    def __init__(self) -> None:
        self.streams: list[BodyStream] = []
        self.ends: list[str] = []
        self.fault: Exception | None = None

    def handle_request(self, request: Any) -> None:
        request.answer(Response(content_type="text/plain", stream=self._begin))

    def _begin(self, stream: BodyStream) -> None:
        self.streams.append(stream)
        stream.when_ended(self.ends.append)
        if self.fault is not None:
            raise self.fault


class Broken(Told):
    def handle_request(self, request: Any) -> None:
        raise RuntimeError("two\nlines")


class Refused(msgspec.Struct, frozen=True):
    """A request that was refused, as ``on_refused`` was told of it."""

    client: str
    reason: str
    name: str = "refused"


async def arrives(client: Client, ready: Callable[[], bool]) -> None:
    """Let the reactor turn until what was sent has had its effect."""
    clock: Any = reactor
    end = clock.seconds() + PATIENCE
    while not ready():
        assert clock.seconds() < end, f"nothing came of it; received {client.received!r}"
        await deferLater(reactor, 0)


def _has_seen(listening: Listening, count: int) -> bool:
    return len(listening.site.limiter) >= count


async def crowd_of(listening: Listening, count: int, begun: bytes, source: str | None = None) -> list[Client]:
    """``count`` connections that have sent ``begun``, all seen by the site."""
    before = len(listening.site.limiter)
    clients = []
    for _ in range(count):
        client = await listening.connect(source)
        clients.append(client.send(begun))
        seen = min(listening.site.limits.connections, before + len(clients))
        await arrives(client, partial(_has_seen, listening, seen))
    return clients
