"""Public routes that a plugin brings, asked over real sockets as a stranger does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted

from stackit.testing import RunningStackit

PLUGIN = """
from stackit import App, PublicRequest, PublicRoute, Response, error, hookimpl
from twisted.internet.defer import Deferred

def hook(request: PublicRequest) -> Response:
    if request.headers.get(b"x-token") != (b"right",):
        return error(401, "no")
    return Response(status=202, body={"size": len(request.body), "of": request.query.get("of")})

async def badge(request: PublicRequest) -> Response:
    return Response(body=b"<svg/>", content_type="image/svg+xml", headers={"Cache-Control": "max-age=60"})

def never(request):
    return Deferred()

def fails(request):
    raise KeyError("secret of the plugin")

def odd(request):
    return Response(status=200, headers={"X-A": "b\\r\\nX-B: c"})

def nothing(request):
    return None

@hookimpl
def stackit_public_routes(app: App):
    return [
        PublicRoute(method="POST", path="{prefix}/chat/hook", handler=hook, max_body=100),
        PublicRoute(method="GET", path="/badge.svg", handler=badge),
        PublicRoute(method="GET", path="/slow", handler=never, deadline=0.2),
        *[PublicRoute(method="GET", path=f"/{each.__name__}", handler=each) for each in (fails, odd, nothing)],
    ]
"""


async def start(running_stackit: Any, tmp_path: Path, **ratelimit: int) -> RunningStackit:
    (tmp_path / "chat.py").write_text(PLUGIN)
    plugins = {"chat": {"module": "chat"}, "ratelimit": ratelimit}
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "grace": "1s", "plugins": plugins}, plugins=tmp_path
    )
    return server


async def logged(server: RunningStackit, text: str) -> None:
    """Wait until stackit wrote ``text`` to its log."""

    async def found() -> bool:
        return text in server.log

    await server.until(found, f"a line with {text!r}")


@pytest_twisted.ensureDeferred
async def test_a_route_of_a_plugin_is_served_on_its_exact_path(running_stackit: Any, tmp_path: Path) -> None:
    server = await start(running_stackit, tmp_path)
    token = {"X-Token": "right"}
    for prefix in ("/api/v1", "/api"):
        answer = await server.ask("POST", f"{server.url}{prefix}/chat/hook?of=a%20b", body=b"x" * 100, headers=token)
        assert (answer.status, answer.json()) == (202, {"size": 100, "of": "a b"})
    answer = await server.ask("GET", f"{server.url}/badge.svg")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"<svg/>", "image/svg+xml")
    assert answer.headers["cache-control"] == "max-age=60"
    assert (await server.ask("HEAD", f"{server.url}/badge.svg")).status == 200
    for path in ("/badge.svg/", "//badge.svg", "/Badge.svg", "/%62adge.svg", "/chat/hook"):
        assert (await server.ask("GET", server.url + path)).status == 404, path
    # The admin side has none of it.
    assert (await server.admin("GET", "/badge.svg")).status == 404


@pytest_twisted.ensureDeferred
async def test_methods_bodies_and_queries_are_bounded_before_the_plugin_sees_them(
    running_stackit: Any, tmp_path: Path
) -> None:
    server = await start(running_stackit, tmp_path)
    hook, token = f"{server.url}/api/v1/chat/hook", {"X-Token": "right"}
    answer = await server.ask("GET", hook)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert (await server.ask("POST", f"{server.url}/badge.svg")).headers["allow"] == "GET, HEAD"
    assert (await server.ask("POST", hook, body=b"x" * 101, headers=token)).status == 413
    assert (await server.ask("POST", f"{hook}?of=%ff", headers=token)).status == 400


@pytest_twisted.ensureDeferred
async def test_a_plugin_that_fails_or_takes_too_long_is_named_and_shows_nothing(
    running_stackit: Any, tmp_path: Path
) -> None:
    server = await start(running_stackit, tmp_path)
    for path in ("/fails", "/odd", "/nothing"):
        answer = await server.ask("GET", server.url + path)
        assert (answer.status, answer.json()) == (500, {"error": "internal error"})
        await logged(server, f"plugin chat: public route GET {path} failed: ")
    answer = await server.ask("GET", f"{server.url}/slow")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    await logged(server, "plugin chat: public route GET /slow failed: HandlerTimeout")
    # The log tells where the plugin raised; the others are what stackit says of it.
    assert server.log.count("[stackit] | Traceback") == server.log.count("Traceback") == 1
    assert server.log.count(f'[stackit] |   File "{tmp_path}/chat.py", line ') == 1


@pytest_twisted.ensureDeferred
async def test_a_client_that_is_refused_too_often_is_slowed_down_there_and_a_delivery_is_not(
    running_stackit: Any, tmp_path: Path
) -> None:
    server = await start(running_stackit, tmp_path, burst=3, per_minute=1)
    hook, token = f"{server.url}/api/v1/chat/hook", {"X-Token": "right"}
    assert [(await server.ask("POST", hook)).status for _ in range(3)] == [401, 401, 401]
    answer = await server.ask("POST", hook, headers=token)
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 0
    assert (await server.deliver("push", guid="after")).status == 202
    metrics = await server.metrics()
    assert metrics['stackit_requests_refused_total{reason="plugin"}'] == 3
    assert metrics['stackit_requests_refused_total{reason="rate"}'] >= 1
