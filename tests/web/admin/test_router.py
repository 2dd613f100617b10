"""The routes of the admin side, and the requests that reach them."""

from __future__ import annotations

import pytest
import pytest_twisted
from admin_server import CSRF, ECHO, PREFIXES, Serve, echo
from log_capture import lines_logged

from stackit import Response, Route, StackitError
from stackit.http.server.site import Limits
from stackit.web.admin.rules import BODY_CAP


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
        ([Route("POST", "/a", echo, open=True)], "only a GET or a form can be open"),
        ([Route("GET", "/a", echo, node="leader", open=True)], "that of an open route or a form is any"),
        ([Route("POST", "/a", echo, node="leader", form=True)], "that of an open route or a form is any"),
        ([Route("GET", "/a", echo, node="nearest")], "its node must be any, mirror or leader"),  # type: ignore[arg-type]  # wrong on purpose
        ([Route("GET", "/a/{owner}", echo, node="mirror")], "only where the path has {owner} and {name}"),
        ([Route("GET", "/a", echo, query="accept")], "its query must be a tuple of names"),  # type: ignore[arg-type]  # wrong on purpose
        ([Route("GET", "/a", echo, query=("accept", 5))], "its query must be a tuple of names"),  # type: ignore[arg-type]  # wrong on purpose
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
    with lines_logged() as lines:
        assert (await server.send(head)).status == 401
    assert lines == ["admin request refused client=127.0.0.1 status=401 reason=not_known"]


@pytest_twisted.ensureDeferred
async def test_a_request_that_never_ends_is_cut_at_the_deadline(serve: Serve) -> None:
    server = await serve(ECHO, limits=Limits(deadline=0.1))
    assert (await server.send(b"GET /metrics HTTP/1.1\r\nHost: loc")).status == 408
