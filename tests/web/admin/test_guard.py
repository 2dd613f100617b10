"""The protections of the admin side: Host, tokens, and the header against other sites."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import pytest_twisted
from admin_server import CSRF, ECHO, Serve
from log_capture import lines_logged

from stackit import AdminRequest, Response, Route


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
    with lines_logged() as lines:
        file.unlink()
        for _ in range(3):
            assert (await server.ask("GET", "/metrics", "Authorization: Bearer token")).status == 200
    assert lines == [f"admin token file {file}: No such file or directory; the token it had stays valid"]
    with lines_logged() as lines:
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


@pytest_twisted.ensureDeferred
async def test_an_open_route_needs_no_token_but_the_right_host_and_sees_its_cookie(serve: Serve) -> None:
    def who(request: AdminRequest) -> Response:
        return Response(body={"cookie": request.cookie})

    routes = [Route("GET", "/open", who, open=True), Route("GET", "/closed", who)]
    server = await serve(routes, token="the-token-of-the-admin-side")
    answer = await server.ask("GET", "/open", "Cookie: a=b; c=d")
    assert (answer.status, answer.json) == (200, {"cookie": "a=b; c=d"})
    assert (await server.ask("GET", "/closed")).status == 401
    assert (await server.ask("GET", "/open/")).status == 401, "an unknown path is no open one"
    assert (await server.ask("POST", "/open", CSRF)).status == 401
    assert (await server.ask("GET", "/open", host="evil.example")).status == 421


@pytest_twisted.ensureDeferred
async def test_a_handler_is_told_who_asks(serve: Serve, tmp_path: Path) -> None:
    ops = tmp_path / "ops.token"
    ops.write_text("token-of-operations")
    server = await serve(ECHO, token="token-of-the-environment", token_files=[ops])
    for token, by in (("token-of-operations", "ops.token"), ("token-of-the-environment", "STACKIT_API_TOKEN")):
        answer = await server.ask("GET", "/metrics", f"Authorization: Bearer {token}")
        assert answer.json["by"] == by
    server = await serve(ECHO)
    assert (await server.ask("GET", "/metrics")).json["by"] == "127.0.0.1"
