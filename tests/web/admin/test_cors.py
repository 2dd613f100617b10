"""CORS: pages of the configured origins may ask and read, exactly these, and every other check holds for them."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from admin_server import CSRF, ECHO
from log_capture import warnings_logged

ORIGIN = "https://app.example.org"
TOKEN = "t0ken-of-the-admin-side"
SYNC = "/api/v1/repos/octo/widget/sync"
ASK = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,x-stackit-csrf")
SHARED = "access-control-allow-origin"


@pytest_twisted.ensureDeferred
async def test_a_preflight_of_a_known_origin_needs_no_token_and_names_what_may_be_asked(serve: Any) -> None:
    server = await serve(ECHO, token=TOKEN, cors_origins=[ORIGIN])
    with warnings_logged() as events:
        answer = await server.ask("OPTIONS", SYNC, f"Origin: {ORIGIN}", *ASK)
    assert (answer.status, answer.body, events) == (204, b"", [])
    assert answer.headers[SHARED] == ORIGIN
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "POST" in answer.headers["access-control-allow-methods"].split(", ")
    # Nobody learns from it which paths there are.
    nowhere = await server.ask("OPTIONS", "/nowhere", f"Origin: {ORIGIN}", *ASK)
    assert (nowhere.status, nowhere.headers["access-control-allow-methods"]) == (
        204,
        answer.headers["access-control-allow-methods"],
    )
    assert {"Authorization", "X-Stackit-CSRF", "Last-Event-ID"} <= {
        *answer.headers["access-control-allow-headers"].split(", ")
    }
    assert "Origin" in answer.headers["vary"]


@pytest_twisted.ensureDeferred
async def test_answers_and_refusals_can_be_read_by_a_page_of_a_known_origin(serve: Any) -> None:
    server = await serve(ECHO, token=TOKEN, cors_origins=[ORIGIN])
    asked = (f"Origin: {ORIGIN}", f"Authorization: Bearer {TOKEN}")
    for method, path, headers, status in [
        ("GET", "/metrics", asked, 200),
        ("POST", SYNC, (*asked, CSRF), 200),
        ("POST", SYNC, asked, 403),
        ("GET", "/metrics", asked[:1], 401),
        ("GET", "/nowhere", asked, 404),
        ("GET", "/metrics?odd=1", asked, 200),
    ]:
        answer = await server.ask(method, path, *headers)
        assert (answer.status, answer.headers[SHARED], answer.headers["vary"]) == (status, ORIGIN, "Origin"), path


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.org.evil.example",
        "https://app.example.org:444",
        "http://app.example.org",
        "HTTPS://APP.EXAMPLE.ORG",
        "null",
        "*",
        "",
    ],
)
async def test_no_other_origin_is_let_in(serve: Any, origin: str) -> None:
    server = await serve(ECHO, token=TOKEN, cors_origins=[ORIGIN])
    preflight = await server.ask("OPTIONS", SYNC, f"Origin: {origin}", *ASK)
    assert (preflight.status, SHARED in preflight.headers) == (401, False)
    answer = await server.ask("GET", "/metrics", f"Origin: {origin}", f"Authorization: Bearer {TOKEN}")
    assert (answer.status, SHARED in answer.headers, answer.headers["vary"]) == (200, False, "Origin")


@pytest_twisted.ensureDeferred
async def test_two_origins_in_one_request_are_none(serve: Any) -> None:
    server = await serve(ECHO, cors_origins=[ORIGIN])
    answer = await server.ask("GET", "/metrics", f"Origin: {ORIGIN}", f"Origin: {ORIGIN}")
    assert SHARED not in answer.headers


@pytest_twisted.ensureDeferred
async def test_a_page_that_gave_its_own_name_this_address_is_let_in_by_no_origin(serve: Any) -> None:
    server = await serve(ECHO, cors_origins=[ORIGIN])
    assert (await server.ask("OPTIONS", SYNC, f"Origin: {ORIGIN}", *ASK, host="evil.example")).status == 421


@pytest_twisted.ensureDeferred
async def test_without_origins_nothing_is_said_of_them(serve: Any) -> None:
    server = await serve(ECHO)
    answer = await server.ask("GET", "/metrics", f"Origin: {ORIGIN}")
    assert (answer.status, SHARED in answer.headers, "vary" in answer.headers) == (200, False, False)
    assert (await server.ask("OPTIONS", SYNC, f"Origin: {ORIGIN}", *ASK)).status == 405
