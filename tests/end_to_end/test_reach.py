"""Who reaches what: read-only mode, pages of other origins, and the token that a shell keeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest_twisted
from outside import command, connect, hang_up, shell

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


@pytest_twisted.ensureDeferred
async def test_a_shell_keeps_a_token_until_it_logs_out(running_stackit: Any, tmp_path: Path) -> None:
    token, wrong = tmp_path / "token", tmp_path / "wrong"
    for file in (token, wrong):
        file.write_text(f"the-{file.name}-of-operators")
        file.chmod(0o600)
    server: RunningStackit = await running_stackit(
        config={**QUIET, "admin": {"token_files": [str(token)]}, "login": {"anonymous": "read"}}
    )

    async def stackit(*arguments: str) -> tuple[int | None, str]:
        argv = (sys.executable, "-m", "stackit", *arguments, "--admin-url", server.admin_url)
        done = await shell(*argv, HOME=str(tmp_path))
        return done.status, (done.stdout or done.stderr).decode()

    status, said = await stackit("login", "--token-file", str(wrong))
    assert (status, "refuses this token" in said) == (1, True)
    assert await stackit("login", "--token-file", str(token)) == (0, f"the token is kept for {server.admin_url}\n")
    assert (await stackit("pause", "mirror"))[0] == 0
    assert await stackit("logout") == (0, f"logged out at {server.admin_url}\n")
    assert await stackit("resume", "mirror") == (1, "stackit: this takes an operator, and you may only look\n")
    assert (await stackit("logout"))[0] == 1
