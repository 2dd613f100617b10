"""The admin side over real sockets: who gets in, which route answers, and what comes back."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_twisted
from foreign_faults import FAULTS, IDS, OddDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, serverFromString
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from stackit import AdminRequest, Response, Route, StackitError
from stackit.config.model import AdminConfig, Config
from stackit.http.server.site import Limits
from stackit.web.admin.rules import BODY_CAP, readyz
from stackit.web.admin.site import admin_site

PREFIXES = ("/api/v1", "/api")


class Answer(msgspec.Struct, frozen=True):
    """What came back before the connection closed; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Reader(Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, _reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class Server:
    """A listening admin side."""

    def __init__(self, reactor: Any, port: int) -> None:
        self._reactor = reactor
        self.port = port

    async def connect(self) -> _Reader:
        return await connectProtocol(HostnameEndpoint(self._reactor, "127.0.0.1", self.port), _Reader())

    async def send(self, request: bytes) -> Answer:
        reader = await self.connect()
        reader.transport.write(request)
        await reader.lost
        head, _, body = reader.received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(status.split()[1]), headers, body)

    async def ask(
        self, method: str, path: str, *headers: str, host: str | None = "localhost", body: bytes = b""
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1", "Connection: close", *headers]
        lines += [f"Host: {host}"] if host is not None else []
        lines += [f"Content-Length: {len(body)}"] if body else []
        return await self.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


Serve = Callable[..., Awaitable[Server]]


@pytest_twisted.async_yield_fixture
async def serve() -> AsyncIterator[Serve]:
    """Starts admin sides: ``await serve(routes, token=…, token_files=…, hosts=…)``."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    ports = []
    sites = []

    async def start(
        routes: Iterable[Route],
        *,
        token: str | None = None,
        token_files: Sequence[Path] = (),
        hosts: Sequence[str] = (),
        **more: Any,
    ) -> Server:
        admin = AdminConfig(hosts=tuple(hosts), token_files=tuple(token_files))
        config = Config(state_dir=Path("unused"), api_prefixes=PREFIXES, admin=admin, api_token=token)
        site = admin_site(config, routes, reactor, **more)
        sites.append(site)
        port = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(site)
        ports.append(port)
        return Server(reactor, port.getHost().port)

    yield start
    for port in ports:
        await port.stopListening()
    for site in sites:
        await site.drain(5)


def echo(request: AdminRequest) -> Response:
    return Response(
        body={
            "method": request.method,
            "path": request.path,
            "args": request.args,
            "query": request.query,
            "body": request.body.decode(),
        }
    )


@contextmanager
def logged() -> Iterator[list[str]]:
    """The lines that stackit logs meanwhile."""
    lines: list[str] = []

    def note(event: LogEvent) -> None:
        if event.get("log_namespace") == "stackit":
            lines.append(str(event["log_format"]).format(**event))

    globalLogPublisher.addObserver(note)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(note)


ECHO = [
    Route("GET", "/metrics", echo),
    Route("GET", "{prefix}/repos/{owner}/{name}", echo),
    Route("POST", "{prefix}/repos/{owner}/{name}/sync", echo),
]
CSRF = "X-Stackit-CSRF: 1"


# -- who gets in ------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8081", "[::1]", "[::1]:8081"])
@pytest_twisted.ensureDeferred
async def test_the_listeners_own_names_are_served(serve: Serve, host: str) -> None:
    server = await serve(ECHO)
    assert (await server.ask("GET", "/metrics", host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "10.0.0.1",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_page_whose_name_was_pointed_at_the_listener_gets_nothing(serve: Serve, host: str) -> None:
    server = await serve(ECHO)
    answer = await server.ask("GET", "/metrics", host=host)
    assert answer.status == 421
    assert "admin.hosts" in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_a_request_without_host_or_with_two_gets_nothing(serve: Serve) -> None:
    server = await serve(ECHO)
    assert (await server.send(b"GET /metrics HTTP/1.0\r\n\r\n")).status in (400, 421)
    assert (await server.ask("GET", "/metrics", "Host: evil.example")).status in (400, 421)


@pytest_twisted.ensureDeferred
async def test_the_authority_of_a_target_is_the_host_that_counts(serve: Serve) -> None:
    server = await serve(ECHO, hosts=["stackit.example.org"])
    for authority in ("localhost", "127.0.0.1:8081", "stackit.example.org", "[::1]:80"):
        answer = await server.ask("GET", f"http://{authority}/metrics?x=1", host="evil.example")
        assert (answer.status, answer.json["path"], answer.json["query"]) == (200, "/metrics", {"x": "1"})
    assert (await server.ask("GET", "http://evil.example/metrics")).status == 421
    assert (await server.ask("GET", "http://localhost@evil.example/metrics")).status == 400


@pytest_twisted.ensureDeferred
async def test_configured_hosts_are_served_with_any_port(serve: Serve) -> None:
    server = await serve(ECHO, hosts=["stackit.example.org", "other.example:8443", "[2001:db8::1]"])
    for host in ("Stackit.Example.org", "stackit.example.org:443", "other.example", "[2001:db8::1]:80"):
        assert (await server.ask("GET", "/metrics", host=host)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Authorization: Bearer wrong",),
        ("Authorization: Bearer",),
        ("Authorization: Bearer ",),
        ("Authorization: Basic Zmlyc3Q=",),
        ("Authorization: first",),
        ("Authorization: Bearer first, Bearer second",),
        ("Authorization: Bearer first", "Authorization: Bearer first"),
        ("Authorization: Bearer f\xefrst",),
    ],
)
@pytest_twisted.ensureDeferred
async def test_without_a_right_token_nothing_is_told(serve: Serve, tmp_path: Path, headers: tuple[str, ...]) -> None:
    (tmp_path / "token").write_text("second")
    server = await serve(ECHO, token="first", token_files=[tmp_path / "token"])
    for path in ("/metrics", "/no/such/path"):
        answer = await server.ask("GET", path, *headers)
        assert answer.status == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "first" not in answer.body.decode()


@pytest_twisted.ensureDeferred
async def test_any_valid_token_opens_and_a_changed_file_counts_at_once(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("second\n")
    server = await serve(ECHO, token="first", token_files=[file])
    assert (await server.ask("GET", "/metrics", "Authorization: Bearer first")).status == 200
    assert (await server.ask("GET", "/metrics", "authorization: bearer second")).status == 200
    file.write_text("\ufeffthe-third\n", "utf-8")  # as an editor on Windows saves it
    assert (await server.ask("GET", "/metrics", "Authorization: Bearer second")).status == 401
    assert (await server.ask("GET", "/metrics", "Authorization: Bearer the-third")).status == 200


@pytest_twisted.ensureDeferred
async def test_when_every_token_has_been_revoked_the_door_stays_shut(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("token")
    server = await serve(ECHO, token_files=[file])
    file.write_text("")
    for headers in ((), ("Authorization: Bearer ",), ("Authorization: Bearer token",)):
        assert (await server.ask("GET", "/metrics", *headers)).status == 401


@pytest_twisted.ensureDeferred
async def test_a_token_file_that_went_away_keeps_its_token_and_the_log_says_so_once(
    serve: Serve, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("token")
    server = await serve(ECHO, token_files=[file])
    assert (await server.ask("GET", "/metrics", "Authorization: Bearer token")).status == 200
    with logged() as lines:
        file.unlink()
        for _ in range(3):
            assert (await server.ask("GET", "/metrics", "Authorization: Bearer token")).status == 200
    assert lines == [f"admin token file {file}: No such file or directory; the token it had stays valid"]
    with logged() as lines:
        os.mkfifo(file)  # nobody writes to it, so a read that waits would be the end of the admin side
        assert (await server.ask("GET", "/metrics", "Authorization: Bearer token")).status == 200
        file.unlink()
        file.write_text("two tokens")
        assert (await server.ask("GET", "/metrics", "Authorization: Bearer token")).status == 200
        file.write_text("another")
        assert (await server.ask("GET", "/metrics", "Authorization: Bearer another")).status == 200
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "pipe").replace(file)
        assert (await server.ask("GET", "/metrics", "Authorization: Bearer another")).status == 200
    assert lines == [
        f"admin token file {file} was read again: its token is valid from now on",
        f"admin token file {file}: it is not a regular file; the token it had stays valid",
    ]


@pytest_twisted.ensureDeferred
async def test_an_unsafe_method_needs_the_header_that_no_form_can_send(serve: Serve) -> None:
    server = await serve(ECHO)
    path = "/api/repos/octo/widget/sync"
    for headers in ((), ("X-Stackit-CSRF: 0",), ("X-Stackit-CSRF: 1", "X-Stackit-CSRF: 2")):
        answer = await server.ask("POST", path, *headers)
        assert answer.status == 403
        assert "X-Stackit-CSRF" in answer.json["error"]
    assert (await server.ask("POST", path, CSRF)).status == 200


@pytest_twisted.ensureDeferred
async def test_host_is_asked_before_token_and_token_before_csrf(serve: Serve) -> None:
    server = await serve(ECHO, token="token")
    assert (await server.ask("POST", "/metrics", host="evil.example")).status == 421
    assert (await server.ask("POST", "/metrics")).status == 401
    assert (await server.ask("POST", "/metrics", "Authorization: Bearer token")).status == 403
    assert (await server.ask("POST", "/metrics", "Authorization: Bearer token", CSRF)).status == 405


@pytest_twisted.ensureDeferred
async def test_every_answer_tells_browsers_to_keep_their_hands_off(serve: Serve) -> None:
    server = await serve(ECHO)
    for path, host in (("/metrics", "localhost"), ("/nothing", "localhost"), ("/metrics", "evil.example")):
        headers = (await server.ask("GET", path, host=host)).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["content-type"] == "application/json"
        assert "access-control-allow-origin" not in headers


# -- which route answers ----------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_route_is_served_under_every_prefix_with_its_segments_decoded(serve: Serve) -> None:
    server = await serve(ECHO)
    for prefix in PREFIXES:
        answer = await server.ask("GET", f"{prefix}/repos/oct%6F/caf%C3%A9%20x")
        assert answer.status == 200
        assert answer.json["args"] == {"owner": "octo", "name": "café x"}


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics/",
        "//metrics",
        "/metrics/x",
        "/m%65trics",
        "/METRICS",
        "/api/repos/octo",
        "/api/repos/octo/",
        "/api/repos//widget",
        "/api/repos/octo/a%2Fb",
        "/api/repos/octo/%ff",
        "/api/repos/octo/%zz",
        "/api/repos/octo/%",
        "/api/repos/octo/widget/",
        "/api/v2/repos/octo/widget",
        "/repos/octo/widget",
        "http://localhost/metrics/",
        "*",
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_path_that_is_not_exactly_a_routes_is_not_found(serve: Serve, path: str) -> None:
    server = await serve(ECHO)
    answer = await server.ask("GET", path)
    assert answer.status == 404
    assert answer.json == {"error": "not found"}


@pytest_twisted.ensureDeferred
async def test_the_wrong_method_is_told_the_right_ones(serve: Serve) -> None:
    server = await serve(ECHO)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
        answer = await server.ask(method, "/metrics", CSRF)
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    answer = await server.ask("GET", "/api/repos/octo/widget/sync")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest_twisted.ensureDeferred
async def test_head_is_get_without_the_body(serve: Serve) -> None:
    server = await serve([Route("GET", "/x", lambda _request: Response(body={"a": 1}))])
    full, head = await server.ask("GET", "/x"), await server.ask("HEAD", "/x")
    assert head.status == 200
    assert head.body == b""
    assert head.headers["content-length"] == full.headers["content-length"] == str(len(full.body))


@pytest_twisted.ensureDeferred
async def test_a_plain_segment_wins_over_one_in_braces_in_whatever_order_routes_come(serve: Serve) -> None:
    one = Route("POST", "/d/replay", lambda _request: Response(body="plain"))
    any_ = Route("POST", "/d/{id}", lambda _request: Response(body="braces"))
    for routes in ([one, any_], [any_, one]):
        server = await serve(routes)
        assert (await server.ask("POST", "/d/replay", CSRF)).json == "plain"
        assert (await server.ask("POST", "/d/17", CSRF)).json == "braces"


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        ([Route("GET", "/a", echo), Route("GET", "/a", echo)], "served already"),
        ([Route("GET", "{prefix}/a/{x}", echo), Route("GET", "/api/a/{y}", echo)], "served already"),
        ([Route("get", "/a", echo)], "upper-case"),
        ([Route("GET", "a", echo)], "must begin with"),
        ([Route("GET", "/a//b", echo)], "plain segment"),
        ([Route("GET", "/a/x{b}", echo)], "plain segment"),
        ([Route("GET", "/{a}/{a}", echo)], "twice"),
        ([Route("GET", "a", echo, "odd")], "plugin odd: admin route GET a: "),
    ],
)
@pytest_twisted.ensureDeferred
async def test_routes_that_cannot_be_served_stop_the_start(serve: Serve, routes: list[Route], reason: str) -> None:
    with pytest.raises(StackitError, match=reason) as caught:
        await serve(routes)
    assert routes[-1].path in str(caught.value)


@pytest_twisted.ensureDeferred
async def test_query_parameters_arrive_decoded_and_the_last_one_counts(serve: Serve) -> None:
    server = await serve(ECHO)
    answer = await server.ask("GET", "/metrics?a=1&a=2&empty=&b=caf%C3%A9+x")
    assert answer.json["query"] == {"a": "2", "empty": "", "b": "café x"}
    assert answer.json["path"] == "/metrics"


@pytest.mark.parametrize("query", ["a=%ff", "a=\xff", "&".join(f"a{n}=1" for n in range(33))])
@pytest_twisted.ensureDeferred
async def test_a_query_that_cannot_be_read_is_a_bad_request(serve: Serve, query: str) -> None:
    server = await serve(ECHO)
    assert (await server.ask("GET", f"/metrics?{query}")).status == 400


@pytest_twisted.ensureDeferred
async def test_a_body_of_64_kib_arrives_and_a_larger_one_is_refused(serve: Serve) -> None:
    server = await serve(ECHO)
    path = "/api/repos/octo/widget/sync"
    assert len((await server.ask("POST", path, CSRF, body=b"x" * BODY_CAP)).json["body"]) == BODY_CAP
    assert (await server.ask("POST", path, CSRF, body=b"x" * (BODY_CAP + 1))).status == 413


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_over_the_cap_is_refused_too(serve: Serve) -> None:
    server = await serve(ECHO)
    head = "POST /api/repos/o/w/sync HTTP/1.1\r\nHost: localhost\r\nX-Stackit-CSRF: 1\r\nTransfer-Encoding: chunked"
    chunk = b"%x\r\n%b\r\n" % (BODY_CAP, b"x" * BODY_CAP)
    assert (await server.send(head.encode() + b"\r\n\r\n" + chunk + b"1\r\nx\r\n")).status == 413


@pytest_twisted.ensureDeferred
async def test_who_may_not_come_in_is_told_before_sending_a_body_and_the_log_says_so(serve: Serve) -> None:
    server = await serve(ECHO, token="token")
    head = b"POST /api/repos/o/w/sync HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    with logged() as lines:
        assert (await server.send(head)).status == 401
    assert lines == ["admin request refused client=127.0.0.1 status=401 reason=admin"]


@pytest_twisted.ensureDeferred
async def test_a_request_that_never_ends_is_cut_at_the_deadline(serve: Serve) -> None:
    server = await serve(ECHO, limits=Limits(deadline=0.1))
    assert (await server.send(b"GET /metrics HTTP/1.1\r\nHost: loc")).status == 408


# -- what comes back --------------------------------------------------------------


class Point(msgspec.Struct):
    x: int


@pytest_twisted.ensureDeferred
async def test_answers_are_ascii_json_also_for_refs_that_are_not_utf_8_and_for_structs(serve: Serve) -> None:
    body = {"ref": b"refs/heads/caf\xe9".decode("utf-8", "surrogateescape"), "point": Point(1)}
    server = await serve([Route("GET", "/x", lambda _request: Response(body=body))])
    answer = await server.ask("GET", "/x")
    assert answer.body.isascii()
    assert answer.json == {"ref": "refs/heads/caf\udce9", "point": {"x": 1}}


@pytest_twisted.ensureDeferred
async def test_a_handler_may_answer_bytes_with_a_type_and_headers_of_its_own(serve: Serve) -> None:
    response = Response(body=b"a 1\n", content_type="text/plain; version=1.0", headers={"X-Own": "yes"})
    server = await serve([Route("GET", "/x", lambda _request: response)])
    answer = await server.ask("GET", "/x")
    assert (answer.headers["content-type"], answer.headers["x-own"], answer.body) == (
        "text/plain; version=1.0",
        "yes",
        b"a 1\n",
    )


@pytest_twisted.ensureDeferred
async def test_an_answer_without_a_body_is_empty(serve: Serve) -> None:
    server = await serve([Route("GET", "/x", lambda _request: Response(status=204))])
    answer = await server.ask("GET", "/x")
    assert (answer.status, answer.body) == (204, b"")
    assert "content-type" not in answer.headers


@pytest_twisted.ensureDeferred
async def test_a_handler_may_be_a_coroutine_or_return_a_deferred(serve: Serve) -> None:
    waiting: Deferred[Response] = Deferred()

    async def coroutine(_request: AdminRequest) -> Response:
        return await waiting

    server = await serve([Route("GET", "/c", coroutine), Route("GET", "/d", lambda _request: waiting)])
    asked = [Deferred.fromCoroutine(server.ask("GET", path)) for path in ("/c",)]
    waiting.callback(Response(body="late"))
    assert [(await each).json for each in asked] == ["late"]


async def _raises(_request: AdminRequest) -> Response:
    raise RuntimeError("the disk\nis gone")


@pytest.mark.parametrize(
    "handler",
    [_raises, lambda _request: 1 / 0, lambda _request: {"a": 1}, lambda _request: Response(body=object())],
)
@pytest_twisted.ensureDeferred
async def test_a_handler_that_fails_is_a_500_that_tells_nothing_and_one_line_in_the_log(
    serve: Serve, handler: Any
) -> None:
    server = await serve([Route("GET", "/x/{y}", handler)])
    with logged() as lines:
        answer = await server.ask("GET", "/x/secret")
    assert (answer.status, answer.json) == (500, {"error": "internal error"})
    assert len(lines) == 1
    assert lines[0].startswith("admin route GET /x/{y} failed: ")
    assert "\n" not in lines[0]


class _Fickle(str):
    """Text that is something else where it is put into other text."""

    def __format__(self, _spec: str) -> str:
        return "a\r\nX-Second: b"


_CIRCLE: list[Any] = []
_CIRCLE.append(_CIRCLE)

_TWO = (
    b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
)
"""Two requests, sent at once."""

_UNSENDABLE = {
    "status 599": Response(status=599),
    "status 0": Response(status=0),
    "status 100": Response(status=100),
    "status is text": Response(status="200"),
    "status is true": Response(status=True),
    "line break in a value": Response(headers={"X-A": "a\r\nX-B: b"}),
    "newline in a value": Response(headers={"X-A": "a\nX-B: b"}),
    "newline behind a value": Response(headers={"X-A": "a\n"}),
    "nothing in a value": Response(headers={"X-A": "a\0"}),
    "beyond Latin-1": Response(headers={"X-A": "\u20ac"}),
    "value is bytes": Response(headers={"X-A": b"a"}),  # type: ignore[dict-item]
    "line break in a name": Response(headers={"X-A\r\nX-B": "b"}),
    "colon in a name": Response(headers={"X-A:": "b"}),
    "empty name": Response(headers={"": "b"}),
    "name beyond ASCII": Response(headers={"X-\u00c4": "b"}),
    "a second length": Response(body=b"abc", headers={"content-length": "1"}),
    "another framing": Response(body=b"abc", headers={"Transfer-Encoding": "chunked"}),
    "connection": Response(headers={"Connection": "upgrade"}),
    "no mapping": Response(headers=["X-A"]),
    "line break in the type": Response(content_type="text/plain\r\nX-B: b"),
    "type beyond Latin-1": Response(content_type="text/\u20ac"),
    "no type": Response(content_type=None),
    "body is no JSON": Response(body={"a": float("nan")}),
    "body without end": Response(body=_CIRCLE),
}


@pytest.mark.parametrize("response", _UNSENDABLE.values(), ids=_UNSENDABLE)
@pytest_twisted.ensureDeferred
async def test_an_answer_that_cannot_be_sent_is_a_500_and_one_line_that_names_the_plugin(
    serve: Serve, response: Response
) -> None:
    server = await serve([Route("GET", "/x", lambda _request: response, "odd"), *ECHO])
    reader = await server.connect()
    with logged() as lines:
        reader.transport.write(_TWO)
        await reader.lost
    # Both are answered, each once, and nothing of the first is taken for an answer of its own.
    first, _, rest = reader.received.partition(b'{"error": "internal error"}\n')
    assert first.startswith(b"HTTP/1.1 500 ")
    assert rest.startswith(b"HTTP/1.1 200 ")
    assert reader.received.count(b"HTTP/1.1 ") == 2
    assert b"X-B" not in reader.received
    assert len(lines) == 1
    assert lines[0].startswith("plugin odd: admin route GET /x failed: ")


@pytest_twisted.ensureDeferred
async def test_text_that_changes_its_mind_is_sent_as_it_was_checked(serve: Serve) -> None:
    fickle = Response(body=b"", content_type=_Fickle("text/a"), headers={_Fickle("X-First"): _Fickle("a")})
    server = await serve([Route("GET", "/x", lambda _request: fickle)])
    answer = await server.ask("GET", "/x")
    assert (answer.status, answer.headers["x-first"], answer.headers["content-type"]) == (200, "a", "text/a")
    assert "x-second" not in answer.headers


@pytest_twisted.ensureDeferred
async def test_bytes_that_tell_another_length_than_they_have_are_sent_whole(serve: Serve) -> None:
    class Short(bytes):
        def __len__(self) -> int:
            return 1

    server = await serve([Route("GET", "/x", lambda _request: Response(body=Short(b"HTTP/1.1 200 OK")))])
    answer = await server.ask("GET", "/x")
    assert (answer.headers["content-length"], answer.body) == ("15", b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("status", [204, 205, 304])
@pytest_twisted.ensureDeferred
async def test_a_body_where_none_may_be_is_not_the_next_answer(serve: Serve, status: int) -> None:
    server = await serve([Route("GET", "/x", lambda _request: Response(status=status, body={"a": 1})), *ECHO])
    reader = await server.connect()
    reader.transport.write(_TWO)
    await reader.lost
    first, second = reader.received.split(b"\r\n\r\n", 1)
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert second.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("make", "text"), FAULTS, ids=IDS)
@pytest_twisted.ensureDeferred
async def test_whatever_a_handler_raises_its_request_is_answered(
    serve: Serve, make: Callable[[], BaseException], text: str
) -> None:
    def now(_request: AdminRequest) -> Response:
        raise make()

    async def later(_request: AdminRequest) -> Response:
        raise make()

    server = await serve([Route("GET", "/now", now, "odd"), Route("GET", "/later", later, "odd")])
    for path in ("/now", "/later"):
        with logged() as lines:
            answer = await server.ask("GET", path)
        assert (answer.status, answer.json) == (500, {"error": "internal error"})
        (line,) = lines
        assert line.startswith(f"plugin odd: admin route GET {path} failed: ")
        assert text.partition(":")[0] in line


@pytest_twisted.ensureDeferred
async def test_a_deferred_of_a_class_of_its_own_may_be_an_answer_or_fail_to(serve: Serve) -> None:
    class Own(Deferred[Response]):
        pass

    def good(_request: AdminRequest) -> Own:
        answer = Own()
        answer.callback(Response(body="own"))
        return answer

    server = await serve([Route("GET", "/good", good), Route("GET", "/odd", lambda _request: OddDeferred())])  # type: ignore[return-value]
    assert (await server.ask("GET", "/good")).json == "own"
    with logged() as lines:
        assert (await server.ask("GET", "/odd")).status == 500
    assert len(lines) == 1


@pytest.mark.parametrize("route", [("GET", 5, echo), (b"GET", "/a", echo), ("GET", "/a", None), (None, None, None)])
@pytest_twisted.ensureDeferred
async def test_a_route_that_is_made_of_something_else_stops_the_start(serve: Serve, route: Any) -> None:
    with pytest.raises(StackitError, match=r"^plugin odd: admin route.*: a route is a method and a path"):
        await serve([Route(*route, "odd")])


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
    for each in (*held, reader):  # type: ignore[assignment]
        each.transport.abortConnection()  # type: ignore[attr-defined]


# -- readiness --------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_readyz_is_200_while_all_is_well_and_else_503_with_the_problems(serve: Serve) -> None:
    problems: list[str] = []

    async def checks() -> Sequence[str]:
        return problems

    server = await serve([readyz(checks)])
    answer = await server.ask("GET", "/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True})
    problems.append("journal: disk full")
    answer = await server.ask("GET", "/readyz")
    assert (answer.status, answer.json) == (503, {"ready": False, "problems": ["journal: disk full"]})
