"""The answers of admin routes, whatever their handlers do, and readiness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
import pytest_twisted
from admin_server import CSRF, ECHO, Serve, echo
from foreign_faults import FAULTS, IDS, OddDeferred
from log_capture import lines_logged
from twisted.internet.defer import Deferred

from stackit import AdminRequest, Response, Route, StackitError
from stackit.web.admin.readyz import readyz


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


@pytest_twisted.ensureDeferred
async def test_a_parameter_that_the_route_does_not_name_is_refused(serve: Serve) -> None:
    def body(request: AdminRequest) -> Response:
        return Response(body=dict(request.query))

    server = await serve(
        [
            Route("POST", "/sync", body, query=("accept", "wait")),
            Route("GET", "/bare", body, query=()),
            Route("GET", "/own", body),
        ]
    )
    answer = await server.ask("POST", "/sync?foo=x", CSRF)
    assert (answer.status, answer.json) == (400, {"error": "unknown parameter 'foo'; there is accept, wait"})
    answer = await server.ask("GET", "/bare?accept=")
    assert (answer.status, answer.json) == (400, {"error": "unknown parameter 'accept'; this path takes none"})
    assert (await server.ask("POST", "/sync?accept=a&wait=b", CSRF)).json == {"accept": "a", "wait": "b"}
    assert (await server.ask("GET", "/own?foo=x")).json == {"foo": "x"}


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
    with lines_logged() as lines:
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
    "status is text": Response(status="200"),  # type: ignore[arg-type]  # wrong on purpose
    "status is true": Response(status=True),
    "line break in a value": Response(headers={"X-A": "a\r\nX-B: b"}),
    "newline in a value": Response(headers={"X-A": "a\nX-B: b"}),
    "newline behind a value": Response(headers={"X-A": "a\n"}),
    "nothing in a value": Response(headers={"X-A": "a\0"}),
    "beyond Latin-1": Response(headers={"X-A": "\u20ac"}),
    "value is bytes": Response(headers={"X-A": b"a"}),  # type: ignore[dict-item]  # wrong on purpose
    "line break in a name": Response(headers={"X-A\r\nX-B": "b"}),
    "colon in a name": Response(headers={"X-A:": "b"}),
    "empty name": Response(headers={"": "b"}),
    "name beyond ASCII": Response(headers={"X-\u00c4": "b"}),
    "a second length": Response(body=b"abc", headers={"content-length": "1"}),
    "another framing": Response(body=b"abc", headers={"Transfer-Encoding": "chunked"}),
    "connection": Response(headers={"Connection": "upgrade"}),
    "no mapping": Response(headers=["X-A"]),  # type: ignore[arg-type]  # wrong on purpose
    "line break in the type": Response(content_type="text/plain\r\nX-B: b"),
    "type beyond Latin-1": Response(content_type="text/\u20ac"),
    "no type": Response(content_type=None),  # type: ignore[arg-type]  # wrong on purpose
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
    with lines_logged() as lines:
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
        with lines_logged() as lines:
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

    def odd(_request: AdminRequest) -> Any:
        return OddDeferred()

    server = await serve([Route("GET", "/good", good), Route("GET", "/odd", odd)])
    assert (await server.ask("GET", "/good")).json == "own"
    with lines_logged() as lines:
        assert (await server.ask("GET", "/odd")).status == 500
    assert len(lines) == 1


@pytest.mark.parametrize("route", [("GET", 5, echo), (b"GET", "/a", echo), ("GET", "/a", None), (None, None, None)])
@pytest_twisted.ensureDeferred
async def test_a_route_that_is_made_of_something_else_stops_the_start(serve: Serve, route: Any) -> None:
    with pytest.raises(StackitError, match=r"^plugin odd: admin route.*: a route is a method and a path"):
        await serve([Route(*route, "odd")])  # type: ignore[call-arg]  # wrong on purpose


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
