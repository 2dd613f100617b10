"""The public listener against strangers: real sockets, and a clock that the tests turn."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import pytest
import pytest_twisted
from rawhttp import Client, Listening, request
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from stackit.http.messages import RequestHead, Response
from stackit.http.server.connection import DRAIN_TIME, State
from stackit.http.server.interfaces import SmallBodySink
from stackit.http.server.limits import room_for_connections
from stackit.http.server.refusals import TOO_LARGE, Refusal, method_not_allowed
from stackit.http.server.site import BoundedSite, Limits

POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"


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


class Broken(Told):
    def handle_request(self, request: Any) -> None:
        raise RuntimeError("two\nlines")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_twisted.async_yield_fixture
async def passing(clock: Clock) -> AsyncIterator[None]:
    """Turns the clock with the reactor, by no time at all."""
    turning = LoopingCall(clock.advance, 0)
    turning.clock = reactor
    stopped = turning.start(0)
    yield
    turning.stop()
    await stopped


@pytest.fixture
def failures() -> list[Failure]:
    """What handlers raised."""
    return []


@pytest.fixture
def echo() -> Echo:
    return Echo()


Listen = Callable[..., Listening]


class Refused(msgspec.Struct, frozen=True):
    """A request that was refused, as ``on_refused`` was told of it."""

    client: str
    reason: str
    name: str = "refused"


@pytest_twisted.async_yield_fixture
async def listen(clock: Clock, echo: Echo, failures: list[Failure]) -> AsyncIterator[Listen]:
    made: list[Listening] = []

    def make(**limits: Any) -> Listening:
        seen: list[Any] = []
        routes: dict[bytes, Any] = {b"/echo": echo, b"/spacious": Spacious(), b"/broken": Broken()}
        routes |= {b"/plain": Constant(b"hello"), b"/large": Constant(LARGE)}
        routes[b"/told"] = routes[b"/"] = Told()

        def refused(client: str, head: RequestHead | None, refusal: Refusal) -> None:
            seen.append(Refused(client=client, reason=refusal.reason))

        site = BoundedSite(
            routes,
            reactor=clock,
            on_refused=refused,
            on_failure=failures.append,
            limits=Limits(**limits),
            now=clock.seconds,
        )
        made.append(Listening(reactor, site, seen))
        return made[-1]

    yield make
    for each in made:
        await each.stop()


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """What was logged as a warning or worse."""
    events: list[LogEvent] = []

    def note(event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            events.append(event)

    globalLogPublisher.addObserver(note)
    yield events
    globalLogPublisher.removeObserver(note)


async def arrives(client: Client, ready: Callable[[], bool]) -> None:
    """Let the reactor turn until what was sent has had its effect."""
    for _ in range(5000):
        if ready():
            return
        await deferLater(reactor, 0)  # type: ignore[arg-type]
    raise AssertionError(f"nothing came of it; received {client.received!r}")


# -- paths and methods


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/echo/", "/echo/x", "/ech%6f", "//echo", "/ECHO", "/echo;x", "*", "http://t/echo/", "ftp://t/echo"],
)
@pytest_twisted.ensureDeferred
async def test_only_the_exact_path_is_there(listen: Listen, path: str) -> None:
    house = listen()
    for method in ("GET", "POST", "HEAD", "OPTIONS", "TRACE", "BREW"):
        answer = await house.ask(request(path, method).replace(b"HEAD", b"GET"))
        assert answer.status == 404
        assert answer.json() == {"error": "not found"}
    assert set(house.reasons) == {"not_found"}
    assert len(house.seen) == 6


@pytest_twisted.ensureDeferred
async def test_a_query_does_not_change_the_path(listen: Listen) -> None:
    assert (await listen().ask(request("/echo?x=/y", body=b"abc"))).json() == {"hashed": 3, "read": 3}


@pytest_twisted.ensureDeferred
async def test_a_handler_may_refuse_by_the_head_and_gets_no_more_of_a_body_than_it_wants(listen: Listen) -> None:
    house = listen()
    assert (await house.ask(request("/plain", "GET"))).body == b"hello"
    refused = await house.ask(request("/plain", "PUT"))
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    assert (await house.ask(request("/plain", "GET", body=b"x" * 70_000))).status == 413


@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_a_connection_serves_many_requests_in_order(listen: Listen) -> None:
    client = await listen().connect()
    client.send(b"".join(request("/echo", body=b"x" * size) for size in range(50)))
    assert [(await client.answer()).json()["read"] for _ in range(50)] == list(range(50))
    client.send(request("/echo", headers={"Connection": "close"}, body=b"x"))
    assert (await client.answer()).headers["connection"] == "close"
    assert await client.end() == b""


SIZES = (200_000, 200_000, 5, 0, 99_999, 300_000, 16_384, 16_385, 1_000_000, 1, 70_000)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("parts", [1, 3, 50])
@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_bodies_of_all_sizes_come_as_they_were_sent_however_they_are_cut(
    listen: Listen, parts: int, ahead: bool
) -> None:
    client = await listen().connect()
    random = Random(parts)
    bodies = [random.randbytes(size) for size in SIZES]
    for number, body in enumerate(bodies):
        # Heads of several lengths, and all but the last with a body that is shorter or longer than the one before.
        sent = request("/spacious", headers={"X-Padding": "x" * (number % 3)}, body=body)
        cuts = sorted(random.sample(range(1, len(sent)), parts - 1))
        for begin, end in pairwise([0, *cuts, len(sent)]):
            client.send(sent[begin:end])
            if not ahead:
                await deferLater(reactor, 0)
        if not ahead:
            assert (await client.answer()).json() == hashlib.sha256(body).hexdigest()
    if ahead:
        answers = [(await client.answer()).json() for _ in bodies]
        assert answers == [hashlib.sha256(body).hexdigest() for body in bodies]


@pytest_twisted.ensureDeferred
async def test_a_long_head_after_a_large_body_is_not_read_in_pieces_as_short_as_the_head_before(listen: Listen) -> None:
    house = listen()
    client = await house.connect()
    assert (await client.send(request("/spacious", body=b"x" * 20_000)).answer()).status == 200
    connection: Any = next(iter(house.site.limiter))
    assert connection.transport.bufferSize < 100
    long_head = request("/spacious", headers={"X-Padding": "x" * 8000}, body=b"x")
    client.send(long_head[:4000])
    await arrives(client, lambda: bool(connection._buffer))
    assert connection.transport.bufferSize > 8000
    assert (await client.send(long_head[4000:]).answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_only_so_many_connections_take_much_at_once(listen: Listen) -> None:
    house = listen()
    body = b"x" * 20_000
    begun = request("/spacious", body=body)[:-10_000]
    clients = await crowd_of(house, 20, begun)
    await arrives(clients[0], lambda: all(each.held == 10_000 for each in house.site.limiter))
    assert len(house.site.large_readers) == 16
    clients[0].transport.abortConnection()
    await arrives(clients[1], lambda: len(house.site.large_readers) == 15)
    for client in clients[1:]:
        assert (await client.send(body[:10_000]).answer()).json() == hashlib.sha256(body).hexdigest()
    assert (await house.ask(POST + b"Content-Length: 20000\r\n\r\n" + body)).status == 413
    assert not house.site.large_readers


@pytest_twisted.ensureDeferred
async def test_a_peer_that_goes_between_head_and_body_leaves_nothing(listen: Listen) -> None:
    house = listen()
    client = await house.connect()
    large = request("/spacious", body=b"x" * 200_000)
    assert (await client.send(large).answer()).status == 200
    head = large[: large.index(b"\r\n\r\n") + 4]
    client.send(head)
    await arrives(client, lambda: any(each.head is not None for each in house.site.limiter))
    client.transport.loseConnection()
    await client.closed
    await arrives(client, lambda: len(house.site.limiter) == 0)


@pytest_twisted.ensureDeferred
async def test_a_handler_that_raises_is_reported_once_and_answers_with_a_500_that_says_nothing(
    listen: Listen, failures: list[Failure]
) -> None:
    house = listen()
    client = await house.connect()
    answer = await client.send(request("/broken", "GET")).answer()
    assert (answer.status, answer.json()) == (500, {"error": "internal error"})
    assert [str(each.value) for each in failures] == ["two\nlines"]
    assert (await client.send(request("/echo", body=b"")).answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_handler_that_fails_at_the_head_costs_no_more(
    listen: Listen, failures: list[Failure], echo: Echo
) -> None:
    echo.handle_head = None  # type: ignore[method-assign, assignment]
    house = listen()
    for body in (b"x", b"", None):
        assert (await house.ask(request("/echo", body=body))).json() == {"error": "internal error"}
    assert len(failures) == 3


# -- what is not HTTP

MALFORMED = {
    "no request line": b"hello\r\n\r\n",
    "two words": b"GET /\r\n\r\n",
    "http 0.9": b"GET /\n",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http 1.2": b"GET /echo HTTP/1.2\r\n\r\n",
    "leading space": b" GET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "double space": b"GET  /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100 + b"\r\n",
    "nul in the path": b"GET /ec\x00ho HTTP/1.1\r\nHost: x\r\n\r\n",
    "path of any bytes": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "long path": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "endless line": b"GET /" + b"x" * 40_000,
    "header without colon": b"GET /echo HTTP/1.1\r\nHost: x\r\nhello\r\n\r\n",
    "header without name": b"GET /echo HTTP/1.1\r\nHost: x\r\n: x\r\n\r\n",
    "space before the colon": POST + b"Content-Length : 5\r\n\r\nhello",
    "header name of any bytes": b"GET /echo HTTP/1.1\r\nHost: x\r\n\xff\x00: x\r\n\r\n",
    "control characters in a header": b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\x01\x08b\r\n\r\n",
    "nul in a header": b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
    "bare line feed": b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\nContent-Length: 5\r\n\r\n",
    "folded header": b"GET /echo HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
    "folded length": POST + b"Content-Length: 5\r\n 5\r\n\r\n",
    "many headers": b"GET /echo HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 600 + b"\r\n",
    "large headers": b"GET /echo HTTP/1.1\r\nHost: x\r\n"
    + b"".join(b"X%d: " % n + b"y" * 900 + b"\r\n" for n in range(30)),
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "signed length": POST + b"Content-Length: +5\r\n\r\nhello",
    "hex length": POST + b"Content-Length: 0x5\r\n\r\nhello",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "5,000 digits": POST + b"Content-Length: " + b"1" * 5000 + b"\r\n\r\n",
    "unicode digits": POST + b"Content-Length: \xd9\xa5\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "the same length twice": POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "length list": POST + b"Content-Length: 5, 5\r\n\r\nhello",
    "length and chunked": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "identity and length": POST + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunked in http 1.0": b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size of words": POST + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
    "negative chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
    "chunk without end": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n",
    "chunk extension": POST + b"Transfer-Encoding: chunked\r\n\r\n5;" + b"x" * 2000,
    "endless trailers": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 12_000,
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
@pytest_twisted.ensureDeferred
async def test_what_is_not_http_gets_one_400_and_nothing_in_the_log(
    listen: Listen, logged: list[LogEvent], data: bytes
) -> None:
    house = listen()
    client = await house.connect()
    answer = await client.send(data + (b"\r\n" if data.startswith(b"GET /\n") else b"")).answer()
    assert (answer.status, answer.json()) == (400, {"error": "malformed request"})
    assert answer.headers["connection"] == "close"
    assert await client.end() == b""
    assert house.reasons == ["malformed"]
    assert house.seen[0].client == "127.0.0.1"
    assert not logged
    assert (await house.ask(request("/echo", body=b"abc"))).json()["read"] == 3


@pytest_twisted.ensureDeferred
async def test_a_head_may_have_500_headers(listen: Listen) -> None:
    house = listen()
    for headers, status in ((499, 200), (500, 400)):  # and its Host
        answer = await house.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * headers + b"\r\n")
        assert answer.status == status


@pytest_twisted.ensureDeferred
async def test_a_smuggled_request_is_never_seen(listen: Listen) -> None:
    house = listen()
    client = await house.connect()
    smuggled = request("/plain", "GET")
    client.send(POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled)
    assert (await client.answer()).status == 400
    assert await client.end() == b""


@pytest_twisted.ensureDeferred
async def test_empty_lines_before_a_request_mean_nothing(listen: Listen) -> None:
    assert (await listen().ask(b"\r\n\r\n" + request("/echo", body=b"abc"))).json()["read"] == 3


HOSTS = {
    "none": b"HTTP/1.1\r\n",
    "two": b"HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
    "the same twice": b"HTTP/1.1\r\nHost: a\r\nhost: a\r\n",
    "two in http 1.0": b"HTTP/1.0\r\nHost: a\r\nHost: a\r\n",
    "a list": b"HTTP/1.1\r\nHost: a, b\r\n",
    "a path": b"HTTP/1.1\r\nHost: a/b\r\n",
    "a user": b"HTTP/1.1\r\nHost: me@a\r\n",
    "two ports": b"HTTP/1.1\r\nHost: a:1:2\r\n",
    "a port of words": b"HTTP/1.1\r\nHost: a:b\r\n",
    "open brackets": b"HTTP/1.1\r\nHost: [::1\r\n",
    "any bytes": b"HTTP/1.1\r\nHost: \xe9\r\n",
}


@pytest.mark.parametrize("head", HOSTS.values(), ids=HOSTS.keys())
@pytest_twisted.ensureDeferred
async def test_a_request_without_one_valid_host_gets_400(listen: Listen, head: bytes) -> None:
    house = listen()
    client = await house.connect()
    answer = await client.send(b"GET /told " + head + b"\r\n").answer()
    assert answer.status == 400
    assert "Host" in answer.json()["error"]
    assert await client.end() == b""
    assert house.reasons == ["malformed"]


@pytest.mark.parametrize("host", [b"", b"a", b"A-b_c.example:80", b"[::1]:8080", b"192.0.2.1:", b"caf%C3%A9.example"])
@pytest_twisted.ensureDeferred
async def test_a_valid_host_may_be_any(listen: Listen, host: bytes) -> None:
    assert (await listen().ask(b"GET /told HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")).json()["host"] == host.decode()


@pytest_twisted.ensureDeferred
async def test_http_1_0_needs_no_host(listen: Listen) -> None:
    assert (await listen().ask(b"GET /plain HTTP/1.0\r\n\r\n")).body == b"hello"


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        (b"http://a.example/told", "/told", "a.example"),
        (b"HTTPS://a.example:443/told?x=http://b/", "/told", "a.example:443"),
        (b"http://[::1]:80/told", "/told", "[::1]:80"),
        (b"http://a.example", "/", "a.example"),
        (b"http://a.example?x=/told", "/", "a.example"),
        (b"/told?x=http://b/", "/told", "ignored"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_target_with_an_authority_is_its_path_and_the_authority_is_the_host(
    listen: Listen, target: bytes, path: str, host: str
) -> None:
    answer = await listen().ask(b"GET " + target + b" HTTP/1.1\r\nHost: ignored\r\n\r\n")
    assert answer.json() == {"path": path, "host": host}


@pytest.mark.parametrize("target", [b"http:///told", b"http://me@a/told", b"http://a:b/told", b"http://[::1/told"])
@pytest_twisted.ensureDeferred
async def test_an_authority_that_is_none_is_malformed(listen: Listen, target: bytes) -> None:
    assert (await listen().ask(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")).status == 400


@pytest_twisted.ensureDeferred
async def test_every_answer_has_a_date(listen: Listen, clock: Clock) -> None:
    house = listen()
    for seconds, moment in ((0, "00:00:00"), (0.9, "00:00:00"), (0.2, "00:00:01"), (3600, "01:00:01")):
        clock.advance(seconds)
        for path in ("/plain", "/nothing", "/broken", "/echo"):
            answer = await house.ask(request(path, "GET"))
            assert answer.headers["date"] == f"Thu, 01 Jan 1970 {moment} GMT"
        assert (await house.ask(b"nonsense\r\n")).headers["date"] == f"Thu, 01 Jan 1970 {moment} GMT"
    client = await house.connect()
    client.send(b"P")
    await arrives(client, lambda: any(each._buffer for each in house.site._connections))
    clock.advance(30)
    answer = await client.answer()
    assert (answer.status, answer.headers["date"]) == (408, "Thu, 01 Jan 1970 01:00:31 GMT")


# -- a client that closes its half


@pytest_twisted.ensureDeferred
async def test_who_closes_their_half_behind_a_request_gets_the_answer(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    house = listen()
    client = await house.connect()
    client.send(request("/echo", body=b"abc")).transport.loseWriteConnection()
    await arrives(client, lambda: any(each._half_closed for each in house.site._connections))
    echo.gate.callback(None)
    answer = await client.answer()
    assert (answer.json()["read"], answer.headers["connection"]) == (3, "close")
    assert await client.end() == b""
    await arrives(client, lambda: not house.site._connections)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_all_that_was_sent_before_a_half_was_closed_is_answered(listen: Listen, echo: Echo, gated: bool) -> None:
    house = listen()
    if gated:
        echo.gate = Deferred()
    client = await house.connect()
    sent = b"".join(request("/echo", body=b"x" * size) for size in range(9)) + request("/large", "GET")
    client.send(sent).transport.loseWriteConnection()
    if gated:
        await arrives(client, lambda: any(each.state is State.HANDLING for each in house.site._connections))
        echo.gate.callback(None)  # type: ignore[union-attr]
    assert [(await client.answer()).json()["read"] for _ in range(9)] == list(range(9))
    assert (await client.answer()).body == LARGE
    assert await client.end() == b""
    await arrives(client, lambda: not house.site._connections)


@pytest.mark.parametrize("sent", [b"", b"POST /ec", request("/echo", headers={"Content-Length": "9"}) + b"abc"])
@pytest_twisted.ensureDeferred
async def test_a_half_that_is_closed_in_the_middle_ends_the_connection_without_a_word(
    listen: Listen, sent: bytes
) -> None:
    house = listen()
    for before in (b"", request("/echo", body=b"x")):
        client = await house.connect()
        client.send(before + sent).transport.loseWriteConnection()
        if before:
            assert (await client.answer()).status == 200
        assert await client.end() == b""
    await arrives(client, lambda: not house.site._connections)
    assert house.seen == []
    assert house.site.limiter.held == 0


@pytest_twisted.ensureDeferred
async def test_a_request_may_come_byte_by_byte(listen: Listen) -> None:
    client = await listen().connect()
    client.transport.setTcpNoDelay(True)
    for byte in request("/echo", body=b"abc"):
        client.send(bytes([byte]))
        await arrives(client, lambda: not client.transport._tempDataBuffer)
    assert (await client.answer()).json()["read"] == 3


@pytest_twisted.ensureDeferred
async def test_http_1_0_has_its_answer_and_then_the_connection_ends(listen: Listen) -> None:
    client = await listen().connect()
    client.send(b"POST /echo HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc")
    answer = await client.answer()
    assert (answer.json()["read"], answer.headers["connection"]) == (3, "close")
    assert await client.end() == b""


@pytest_twisted.ensureDeferred
async def test_an_upgrade_is_answered_as_if_it_had_not_been_asked_for(listen: Listen) -> None:
    wish = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c"}
    client = await listen().connect()
    for _ in range(2):
        client.send(request("/echo", headers=wish, body=b"abc"))
        assert (await client.answer()).json()["read"] == 3


# -- bodies


@pytest_twisted.ensureDeferred
async def test_a_length_over_the_limit_is_refused_before_the_body(listen: Listen) -> None:
    class Picky(Echo):
        def handle_head(self, head: RequestHead, length: int | None) -> Any:
            return TOO_LARGE if (length or 0) > 1000 else super().handle_head(head, length)

    house = listen()
    house.site._routes[b"/echo"] = Picky()
    client = await house.connect()
    client.send(POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.answer()).status == 413
    assert await client.end() == b""
    assert house.reasons == ["too_large"]


@pytest_twisted.ensureDeferred
async def test_100_continue_is_sent_where_the_body_will_be_read(listen: Listen) -> None:
    client = await listen().connect()
    client.send(POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert (await client.answer()).status == 100
    assert (await client.send(b"hello").answer()).json()["read"] == 5


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_is_counted_as_it_comes(listen: Listen) -> None:
    house = listen()
    client = await house.connect()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    client.send(b"3;ext=1\r\nabc\r\n" + b"1\r\nd\r\n" * 7 + b"0\r\nTrailer: x\r\n\r\n")
    assert (await client.answer()).json() == {"hashed": 10, "read": 10}
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b"x" * 100 + b"\r\n")
    client.send((b"64\r\n" + b"x" * 100 + b"\r\n") * 20)
    assert (await client.answer()).status == 413
    assert house.reasons == ["too_large"]


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_the_chunks_of_one_read_are_one_piece(listen: Listen, echo: Echo) -> None:
    body = b"".join(b"1\r\n%c\r\n" % letter for letter in b"x" * 900)
    assert (await listen().ask(CHUNKED + body + b"0\r\n\r\n")).json() == {"hashed": 900, "read": 900}
    assert echo.sinks[0].pieces < 50


@pytest.mark.usefixtures("passing")
@pytest.mark.parametrize("seed", range(8))
@pytest_twisted.ensureDeferred
async def test_chunks_of_all_sizes_come_as_they_were_sent_however_they_are_cut(listen: Listen, seed: int) -> None:
    house, random = listen(), Random(seed)
    client = await house.connect()
    for last in (False, False, True):
        body = random.randbytes(random.randrange(1, 200_000))
        chunks, at = [], 0
        while at < len(body):
            size = random.choice((1, 7, 900, 5000, 70_000))
            chunks.append(b"%x\r\n%s\r\n" % (len(body[at : at + size]), body[at : at + size]))
            at += size
        sent = CHUNKED.replace(b"/echo", b"/spacious") + b"".join(chunks) + b"0\r\n\r\n"
        cuts = sorted(random.sample(range(1, len(sent)), 20))
        for begin, end in pairwise([0, *cuts, len(sent)]):
            client.send(sent[begin:end])
            await deferLater(reactor, 0)
        if last:
            client.transport.loseWriteConnection()
        assert (await client.answer()).json() == hashlib.sha256(body).hexdigest()
    assert await client.end() == b""


@pytest.mark.parametrize(("size", "status"), [(1, 400), (10, 400), (30, 400), (64, 200), (1000, 200), (100_000, 200)])
@pytest_twisted.ensureDeferred
async def test_a_large_body_comes_in_chunks_that_are_worth_it(listen: Listen, size: int, status: int) -> None:
    house = listen()
    client = await house.connect()
    client.send(CHUNKED.replace(b"/echo", b"/spacious"))
    client.send(b"%x\r\n%s\r\n" % (size, b"x" * size) * (2_000_000 // size) + b"0\r\n\r\n")
    answer = await client.answer()
    assert answer.status == status
    if status == 400:
        assert "chunks" in answer.json()["error"]
        assert house.reasons == ["malformed"]


@pytest_twisted.ensureDeferred
async def test_a_small_body_may_come_in_any_chunks(listen: Listen) -> None:
    body = b"".join(b"1\r\n%c\r\n" % letter for letter in b"x" * 10_000)
    answer = await listen().ask(CHUNKED.replace(b"/echo", b"/spacious") + body + b"0\r\n\r\n")
    assert answer.json() == hashlib.sha256(b"x" * 10_000).hexdigest()


@pytest_twisted.ensureDeferred
async def test_requests_that_come_together_are_answered_in_turn_with_those_of_others(
    listen: Listen, clock: Clock, echo: Echo
) -> None:
    house = listen()
    client = await house.connect()
    client.send(request("/echo", body=b"x") * 100)
    await arrives(client, lambda: bool(echo.sinks))
    assert (await house.ask(request("/plain", "GET"))).status == 200
    assert len(echo.sinks) == 8  # and the rest when the reactor comes round again
    clock.advance(0)
    for _ in range(100):
        assert (await client.answer()).status == 200


@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_what_comes_behind_requests_that_wait_for_their_turn_is_read_in_its_own(listen: Listen) -> None:
    client = await listen().connect()
    for _ in range(20):
        client.send(request("/echo", body=b"x" * 900) * 50)
        await deferLater(reactor, 0)
    for _ in range(1000):
        assert (await client.answer()).json()["read"] == 900
    assert (await client.send(request("/plain", "GET")).answer()).body == b"hello"


@pytest_twisted.ensureDeferred
async def test_what_was_sent_ahead_behind_a_chunked_body_has_to_be_sent_again(listen: Listen) -> None:
    house = listen()
    client = await house.connect()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + request("/plain", "GET"))
    answer = await client.answer()
    assert (answer.json()["read"], answer.headers["connection"]) == (3, "close")
    assert await client.end() == b""


@pytest_twisted.ensureDeferred
async def test_a_chunk_that_claims_to_be_huge_is_refused_when_it_grows_too_large(listen: Listen) -> None:
    client = await listen().connect()
    client.send(POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + b"x" * 2000)
    assert (await client.answer()).status == 413


@pytest_twisted.ensureDeferred
async def test_a_sender_that_goes_on_sending_can_read_its_refusal(listen: Listen, clock: Clock) -> None:
    house = listen()
    client = await house.connect()
    client.send(request("/nowhere", headers={"Content-Length": "100000000"}))
    client.send(b"x" * 300_000)
    assert (await client.answer()).status == 404
    await client.end()
    assert len(house.site.limiter) == 0
    clock.advance(DRAIN_TIME)
    assert len(house.seen) == 1


# -- time


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"POST",
        POST,
        POST + b"Content-Length: 9\r\n\r\nhell",
    ],
    ids=["idle", "in the request line", "in the headers", "in the body"],
)
@pytest_twisted.ensureDeferred
async def test_a_request_that_is_not_whole_by_its_deadline_is_cut(listen: Listen, clock: Clock, begun: bytes) -> None:
    house = listen(deadline=30)
    client = await house.connect()
    await arrives(client, lambda: len(house.site.limiter) == 1)
    for _ in range(29):
        clock.advance(1)
    client.send(begun)
    if begun.endswith(b"hell"):
        await arrives(client, lambda: house.site.limiter.held == 4)
    assert not client.received
    clock.advance(1)
    answer = await client.answer()
    assert (answer.status, answer.json()) == (408, {"error": "the request took too long"})
    await client.end()
    assert house.reasons == ["deadline"]


@pytest_twisted.ensureDeferred
async def test_dripping_does_not_prolong_the_deadline(listen: Listen, clock: Clock, echo: Echo) -> None:
    house = listen(deadline=30)
    client = await house.connect()
    client.send(POST + b"Content-Length: 900\r\n\r\n")
    for dripped in range(29):
        client.send(b"x")
        await arrives(client, lambda dripped=dripped: house.site.limiter.held == dripped + 1)  # type: ignore[misc]
        clock.advance(1)
    assert not client.received
    clock.advance(1)
    assert (await client.answer()).status == 408
    assert echo.sinks[0].size == 29


@pytest_twisted.ensureDeferred
async def test_each_request_of_a_connection_has_a_deadline_of_its_own(listen: Listen, clock: Clock) -> None:
    house = listen(deadline=30)
    client = await house.connect()
    for _ in range(3):
        clock.advance(20)
        assert (await client.send(request("/echo", body=b"x")).answer()).status == 200
    clock.advance(29)
    client.send(b"POST /echo HTT")
    await arrives(client, lambda: any(each._buffer for each in house.site._connections))
    clock.advance(29)
    assert not client.received
    clock.advance(1)
    assert (await client.answer()).status == 408


@pytest_twisted.ensureDeferred
async def test_a_connection_that_idles_between_requests_is_closed_without_a_word(listen: Listen, clock: Clock) -> None:
    house = listen(deadline=30)
    client = await house.connect()
    await client.send(request("/echo", body=b"x")).answer()
    clock.advance(30)
    assert await client.end() == b""
    assert house.seen == []


@pytest_twisted.ensureDeferred
async def test_a_whole_request_may_wait_longer_than_the_deadline(listen: Listen, clock: Clock, echo: Echo) -> None:
    echo.gate = Deferred()
    house = listen(deadline=30)
    client = await house.connect()
    client.send(request("/echo", body=b"x"))
    await arrives(client, lambda: any(each.state is State.HANDLING for each in house.site._connections))
    clock.advance(300)
    echo.gate.callback(None)
    assert (await client.answer()).status == 200


@pytest_twisted.ensureDeferred
async def test_a_peer_that_stays_after_its_last_answer_is_thrown_out(listen: Listen, clock: Clock) -> None:
    house = listen()
    client = await house.connect()
    client.transport.stopReading()
    client.send(b"nonsense\r\n")
    await arrives(client, lambda: bool(house.seen))
    assert len(house.site._connections) == 1
    clock.advance(DRAIN_TIME)
    await arrives(client, lambda: not house.site._connections)


# -- many at once


async def crowd_of(house: Listening, count: int, begun: bytes, source: str | None = None) -> list[Client]:
    """``count`` connections that have sent ``begun``, all seen by the site."""
    before = len(house.site.limiter)
    clients = []
    for number in range(1, count + 1):
        client = await house.connect(source)
        clients.append(client.send(begun))
        await arrives(
            client, lambda number=number: len(house.site.limiter) >= min(house.site.limits.connections, before + number)
        )  # type: ignore[misc]
    return clients


@pytest_twisted.ensureDeferred
async def test_slow_clients_do_not_keep_a_good_one_from_its_answer(listen: Listen) -> None:
    house = listen(connections=20)
    slow = await crowd_of(house, 60, POST + b"Content-Length: 9\r\n")
    assert (await house.ask(request("/echo", body=b"abc"))).json()["read"] == 3
    first = await slow[0].answer()
    assert (first.status, first.headers["retry-after"]) == (503, "5")
    assert set(house.reasons) == {"overload"}
    assert len(house.reasons) == 41


@pytest_twisted.ensureDeferred
async def test_the_address_with_the_most_connections_loses_one(listen: Listen) -> None:
    house = listen(connections=10)
    (good,) = await crowd_of(house, 1, POST + b"Content-Length: 3\r\n\r\n", "127.0.0.1")
    await crowd_of(house, 40, POST, "127.0.0.2")
    assert (await good.send(b"abc").answer()).json()["read"] == 3


@pytest_twisted.ensureDeferred
async def test_a_whole_request_is_never_evicted(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    house = listen(connections=3)
    busy = await crowd_of(house, 3, request("/echo", body=b"x"))
    await arrives(busy[0], lambda: all(each.state is State.HANDLING for each in house.site._connections))
    late = await house.connect()
    answer = await late.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert await late.end() == b""
    assert house.reasons == ["overload"]
    echo.gate.callback(None)
    assert [(await each.answer()).status for each in busy] == [200, 200, 200]


@pytest_twisted.ensureDeferred
async def test_bodies_in_memory_are_bounded_and_the_greediest_address_pays(listen: Listen) -> None:
    house = listen(memory=3000)
    head = POST + b"Content-Length: 1000\r\n\r\n"
    (good,) = await crowd_of(house, 1, head + b"x" * 900, "127.0.0.1")
    await arrives(good, lambda: house.site.limiter.held == 900)
    greedy = await crowd_of(house, 2, head + b"x" * 999, "127.0.0.2")
    await arrives(good, lambda: house.site.limiter.held == 2898)
    (third,) = await crowd_of(house, 1, head + b"x" * 500, "127.0.0.2")
    assert (await greedy[0].answer()).status == 503
    assert house.site.limiter.held <= 3000
    assert (await good.send(b"x" * 100).answer()).json()["read"] == 1000
    assert (await third.send(b"x" * 500).answer()).json()["read"] == 1000
    assert house.reasons == ["overload"]


@pytest_twisted.ensureDeferred
async def test_nobody_goes_for_memory_that_whole_requests_hold(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    house = listen(memory=3000)
    head = POST + b"Content-Length: 1000\r\n\r\n"
    busy = await crowd_of(house, 3, head + b"x" * 1000, "127.0.0.2")
    await arrives(busy[0], lambda: all(each.state is State.HANDLING for each in house.site._connections))
    idle = await crowd_of(house, 3, b"", "127.0.0.1") + await crowd_of(house, 3, head, "127.0.0.2")
    (late,) = await crowd_of(house, 1, head + b"x", "127.0.0.3")
    assert (await late.answer()).status == 503
    assert len(house.site.limiter) == 9
    assert house.reasons == ["overload"]
    echo.gate.callback(None)
    echo.gate = None
    assert [(await each.answer()).status for each in busy] == [200, 200, 200]
    assert (await idle[0].send(request("/echo", body=b"abc")).answer()).json()["read"] == 3
    assert (await idle[3].send(b"x" * 1000).answer()).json()["read"] == 1000


@pytest_twisted.ensureDeferred
async def test_nothing_is_held_once_requests_are_answered_or_gone(listen: Listen) -> None:
    house = listen()
    await house.ask(request("/echo", body=b"x" * 1000))
    client = await house.connect()
    client.send(POST + b"Content-Length: 1000\r\n\r\nxxx")
    await arrives(client, lambda: house.site.limiter.held == 3)
    client.transport.abortConnection()
    await arrives(client, lambda: house.site.limiter.held == 0)


@pytest_twisted.ensureDeferred
async def test_requests_sent_ahead_wait_outside(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    house = listen()
    client = await house.connect()
    client.send(request("/echo", body=b"x") * 100_000)
    await arrives(client, lambda: any(each._buffer for each in house.site._connections))
    (connection,) = house.site._connections
    assert len(connection._buffer) < 200_000
    client.transport.abortConnection()
    await client.closed


def test_there_is_room_for_some_connections_whatever_the_system_allows() -> None:
    assert 16 <= room_for_connections() <= 4096


@pytest.mark.usefixtures("passing")
@pytest_twisted.ensureDeferred
async def test_who_does_not_read_the_answers_gets_no_more_of_them(listen: Listen) -> None:
    house = listen()
    client = await house.connect()
    client.transport.stopReading()
    client.send(request("/plain", "GET") * 300_000)
    await arrives(client, lambda: any(each._write_paused for each in house.site._connections))
    (connection,) = house.site._connections
    assert len(connection._buffer) < 200_000
    client.transport.startReading()
    for _ in range(20):
        assert (await client.answer()).body == b"hello"
    client.transport.abortConnection()
    await client.closed


@pytest_twisted.ensureDeferred
async def test_an_answer_that_the_socket_takes_in_pieces_comes_whole_and_before_the_next(listen: Listen) -> None:
    house = listen()
    client = await house.connect()
    client.send(request("/large", "GET") + request("/plain", "GET"))
    assert (await client.answer()).body == LARGE
    assert (await client.answer()).body == b"hello"


# -- the end


@pytest_twisted.ensureDeferred
async def test_draining_answers_what_is_whole_and_closes_the_rest(listen: Listen, echo: Echo) -> None:
    echo.gate = Deferred()
    house = listen()
    whole, half = await house.connect(), await house.connect()
    whole.send(request("/echo", body=b"x"))
    half.send(POST)
    await arrives(half, lambda: [each.state for each in house.site._connections].count(State.HANDLING) == 1)
    drained = house.site.drain(10)
    assert await half.end() == b""
    assert not drained.called
    echo.gate.callback(None)
    assert (await whole.answer()).status == 200
    await whole.end()
    await drained


@pytest_twisted.ensureDeferred
async def test_draining_takes_no_longer_than_the_grace(listen: Listen, clock: Clock, echo: Echo) -> None:
    echo.gate = Deferred()
    house = listen()
    client = await house.connect()
    client.send(request("/echo", body=b"x"))
    await arrives(client, lambda: any(each.state is State.HANDLING for each in house.site._connections))
    drained: Awaitable[None] = house.site.drain(10)
    clock.advance(10)
    await client.end()
    await drained
    echo.gate.callback(None)
