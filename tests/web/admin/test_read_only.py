"""Read-only mode: every request that would change something is refused with the reason, and reading goes on."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from admin_server import CSRF, ECHO, echo

from stackit import Route

LOGOUT = Route("POST", "{prefix}/logout", echo, when_read_only=True)
REMOVE = Route("DELETE", "{prefix}/repos/{owner}/{name}", echo)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/api/v1/repos/octo/widget/sync", ""),
        ("DELETE", "/api/repos/octo/widget", "GET, HEAD"),
    ],
)
async def test_a_request_that_would_change_something_is_refused_with_the_reason(
    serve: Any, method: str, path: str, allow: str
) -> None:
    server = await serve([*ECHO, REMOVE], read_only=True)
    answer = await server.ask(method, path, CSRF)
    assert (answer.status, answer.headers["allow"].strip()) == (405, allow)
    assert "read_only = true" in answer.json["error"]


@pytest_twisted.ensureDeferred
async def test_reading_goes_on_and_so_do_login_and_logout(serve: Any) -> None:
    server = await serve([*ECHO, LOGOUT], read_only=True)
    assert (await server.ask("GET", "/metrics")).status == 200
    assert (await server.ask("HEAD", "/metrics")).status == 200
    assert (await server.ask("POST", "/api/v1/logout", CSRF)).status == 200


@pytest_twisted.ensureDeferred
async def test_who_may_not_ask_is_not_told_of_it(serve: Any) -> None:
    server = await serve(ECHO, read_only=True, token="t0ken-of-the-admin-side")
    assert (await server.ask("POST", "/api/v1/repos/octo/widget/sync", CSRF)).status == 401
