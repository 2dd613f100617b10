"""Read-only mode and pages of other origins, as a reload switches them on and off again."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest_twisted
from outside import command, connect, hang_up

from stackit.testing import RunningStackit

ORIGIN = "https://app.example.org"
QUIET = {"sync": {"interval": "0"}}


async def about(server: RunningStackit) -> list[dict[str, Any]]:
    """What ``config`` says on the public side, and on the admin side."""
    urls = (server.url, server.admin_url)
    return [(await server.ask("GET", f"{url}{server.prefix}/config")).json() for url in urls]


@pytest_twisted.ensureDeferred
async def test_a_reload_makes_stackit_read_only_and_everybody_says_so(running_stackit: Any) -> None:
    server: RunningStackit = await running_stackit(config=QUIET)
    assert [each["read_only"] for each in await about(server)] == [False, False]
    outcome = await server.reload({**QUIET, "read_only": True})
    assert "read_only" in outcome
    assert [each["read_only"] for each in await about(server)] == [True, True]
    refused = await server.admin("POST", "{prefix}/repos", b'{"name": "octo/widget"}')
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
    said = await command(server, "repos", "add", "octo/widget")
    assert (said.status, "stackit is read-only" in said.stderr.decode()) == (1, True)
    shown = await command(server, "status")
    assert shown.stdout.decode().startswith("state:    ready, read-only\n")
    assert (await server.deliver("issues", guid="all-the-same")).status in (202, 204)
    await server.reload(QUIET)
    assert [each["read_only"] for each in await about(server)] == [False, False]
    assert (await server.admin("POST", "{prefix}/discover")).status == 200


@pytest_twisted.ensureDeferred
async def test_a_reload_lets_a_page_of_another_origin_ask(running_stackit: Any) -> None:
    server: RunningStackit = await running_stackit(config=QUIET)
    url = f"{server.admin_url}{server.prefix}/repos"
    asking = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    assert (await server.ask("OPTIONS", url, headers=asking)).status == 405
    await server.reload({**QUIET, "admin": {"cors_origins": [ORIGIN]}})
    preflight = await server.ask("OPTIONS", url, headers=asking)
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (204, ORIGIN)
    read = await server.ask("GET", url, headers={"Origin": ORIGIN})
    assert (read.status, read.headers["access-control-allow-origin"]) == (200, ORIGIN)
    stream = await connect(server, urlsplit(server.admin_url).port)
    stream.send(f"GET {server.prefix}/events HTTP/1.1\r\nHost: localhost\r\nOrigin: {ORIGIN}\r\n\r\n".encode())
    head = await stream.until(lambda: stream.received if b"\r\n\r\n" in stream.received else None)
    assert b"\r\nContent-Type: text/event-stream" in head
    assert f"\r\nAccess-Control-Allow-Origin: {ORIGIN}\r\n".encode() in head
    await hang_up(stream)
