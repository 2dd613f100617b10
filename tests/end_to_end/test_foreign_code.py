"""A running stackit with a plugin that does all that a plugin should not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from foreign_faults import IDS
from outside import Notebook, check_log, connect, hang_up, twistd

from stackit.testing import RunningStackit

HOSTILE = """
import asyncio
import threading
from foreign_faults import FAULTS
from stackit import Refused, Response, Route, hookimpl, on
from twisted.application.service import Service
from twisted.internet.defer import Deferred

class Hostile:
    def __init__(self):
        self.make = FAULTS[NUMBER][0]

    @hookimpl
    def stackit_admit(self, request):
        asked = b"".join(request.headers.get(b"x-refuse", ()))
        if asked:
            return Refused(**eval(asked))
        raise self.make()

    @hookimpl
    def stackit_expect(self, event):
        raise self.make()

    @hookimpl
    def stackit_observe(self, occurrence):
        raise self.make()

    @hookimpl
    def stackit_health(self):
        raise self.make()

    @hookimpl
    def stackit_backstop(self):
        raise self.make()

    @on("issues")
    def plain(self, event):
        raise self.make()

    @on("issues")
    async def coroutine(self, event):
        raise self.make()

    @on("issues", thread=True)
    def thread(self, event):
        raise self.make()

    @on("issues", timeout=0.2)
    def cancelled(self, event):
        def refuse(_):
            raise self.make()
        return Deferred(refuse)

    @hookimpl
    def stackit_service(self, app):
        make = self.make
        class Odd(Service):
            def stopService(self):
                raise make()
        return Odd()

    @hookimpl
    def stackit_routes(self, app):
        def fails(request):
            raise self.make()
        return [Route("GET", "/fails", fails)]
"""

STARVED = """
import threading
from stackit import Response, Route, hookimpl, on

@on("issues", thread=True, concurrency=1)
def blocks(event):
    pass

@hookimpl
def stackit_routes(app):
    def starve(request):
        # Each thread would need more memory than there are addresses: none can be started.
        threading.stack_size((1 << 46) if request.method == "POST" else 0)
        return Response(body=request.method)
    return [Route("POST", "/threads", starve), Route("GET", "/threads", starve)]
"""

STUCK = """
from stackit import hookimpl, on
from twisted.application.service import Service
from twisted.internet.defer import Deferred

class Endless(Service):
    def stopService(self):
        return Deferred()

@hookimpl
def stackit_service(app):
    return Endless()

@on("issues", timeout=0, concurrency=1, ordered=False)
def hangs(event):
    return Deferred()
"""


@pytest.mark.parametrize(
    "fault",
    [
        "TextRaises",
        "RaisedOnce",
        "CancelledError",
        "KeyboardInterrupt",
        "GeneratorExit",
        "SystemExit",
        "StopIteration",
    ],
)
@pytest_twisted.ensureDeferred
async def test_whatever_a_plugin_raises_everywhere_the_others_and_the_end_are_as_ever(
    running_stackit: Any, tmp_path: Path, fault: str
) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE.replace("NUMBER", str(IDS.index(fault))))
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        config={
            "sync": {"interval": "0.1s"},
            "handlers": {"retry_for": "1s"},
            "plugins": {"notebook": notebook.table, "hostile": {"file": str(tmp_path / "hostile.py:Hostile")}},
        },
        environment={**notebook.environment, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
    )
    for number in range(3):
        assert (await server.deliver("issues", guid=f"issue-{number}")).status == 202
    for number in range(3):
        receipt = await server.wait_for(f"issue-{number}", "dead")
        states = {each["subscriber"]: (each["state"], each["attempts"]) for each in receipt["handlings"]}
        assert states.pop("notebook:events") == ("done", 1)
        assert set(states) == {f"hostile:{name}" for name in ("plain", "coroutine", "thread", "cancelled")}
        assert set(states.values()) == {("dead", 2)}
    assert [note["guid"] for note in notebook.read()] == ["issue-0", "issue-1", "issue-2"]

    ready = await server.admin("GET", "/readyz")
    (problem,) = ready.json()["problems"]
    assert (ready.status, problem.partition(":")[0]) == (503, "hostile")
    assert (await server.admin("GET", "/fails")).status == 500
    assert (await server.deliver("issues", guid="last")).status == 202
    assert await server.stop() == 0
    check_log(server.log)
    assert "plugin hostile: admin route GET /fails failed: " in server.log
    assert "plugin hostile: its service did not stop: " in server.log
    for hook in ("stackit_admit", "stackit_expect", "stackit_observe"):
        assert server.log.count(f"plugin hostile: {hook} failed: ") == 1


@pytest_twisted.ensureDeferred
async def test_a_refusal_that_cannot_be_sent_is_a_500_and_the_connection_lives_on(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "hostile.py").write_text(HOSTILE.replace("NUMBER", "0"))
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"hostile": {"file": str(tmp_path / "hostile.py:Hostile")}}},
        environment={"PYTHONPATH": str(Path(__file__).parents[1] / "support")},
    )
    client = await connect(server)
    for fields in (
        "dict(status=599, reason='a')",
        "dict(status=403, reason='a', retry_after='1\\r\\nX-B: c')",
        "dict(status=403, reason=7)",
    ):
        head = f"POST {server.prefix}/webhooks/github HTTP/1.1\r\nHost: localhost\r\nX-Refuse: {fields!s}\r\n"
        answer = await client.send(f"{head}Content-Length: 0\r\n\r\n".encode()).answer()
        assert answer.status == 500
        assert b"X-B" not in answer.body
        assert "x-b" not in answer.headers
    await hang_up(client)
    assert await server.stop() == 0
    assert server.log.count("plugin hostile: stackit_admit failed: ValueError: the status must be ") == 1


@pytest_twisted.ensureDeferred
async def test_while_no_thread_can_be_started_handlers_fail_and_are_tried_again(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "starved.py").write_text(STARVED)
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"starved": {"file": str(tmp_path / "starved.py")}}}
    )
    await server.deliver("issues", guid="before")
    await server.wait_for("before")
    assert (await server.admin("POST", "/threads")).status == 200
    await server.deliver("issues", guid="meanwhile")

    async def failed() -> bool:
        receipt = await server.receipt("meanwhile") or {"handlings": []}
        return any("can't start new thread" in str(each["error"]) for each in receipt["handlings"])

    await server.until(failed, "the handling to fail")
    assert (await server.admin("GET", "/threads")).status == 200
    await server.deliver("issues", guid="after")
    await server.wait_for("after")
    await server.wait_for("meanwhile")
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_subscriber_that_stands_still_shows_and_keeps_nobody_from_stopping(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "grace": "1s", "plugins": {"stuck": {"file": str(tmp_path / "stuck.py")}}}
    )
    for number in range(2):
        assert (await server.deliver("issues", guid=f"issue-{number}")).status == 202
    name = 'stackit_handlings_stalled_seconds{subscriber="stuck"}'

    async def shows() -> bool:
        return (await server.metrics())[name] > 0

    await server.until(shows, "the metric to show it")
    assert await server.stop() == 0
    check_log(server.log)
    assert "plugin stuck: its service did not stop: HandlerTimeout: not finished after 3 s, cancelled" in server.log


@pytest.mark.parametrize("fault", ["KeyboardInterrupt", "asyncio.CancelledError", "GeneratorExit"])
@pytest.mark.parametrize(
    "text",
    [
        "raise {fault}",
        "from stackit import hookimpl\n@hookimpl\ndef stackit_service(app): raise {fault}",
        "from stackit import hookimpl\n@hookimpl\ndef stackit_routes(app): raise {fault}",
        "from stackit import hookimpl\n@hookimpl\ndef stackit_commands(): raise {fault}",
        "from stackit import hookimpl\n@hookimpl\ndef stackit_public_routes(app): raise {fault}",
        "from stackit import hookimpl\n@hookimpl\ndef stackit_metrics(): raise {fault}",
        "from stackit import hookimpl\nfrom twisted.application.service import Service\n"
        "class Odd(Service):\n    def startService(self): raise {fault}\n"
        "@hookimpl\ndef stackit_service(app): return Odd()",
        "from stackit import Route, hookimpl\n@hookimpl\ndef stackit_routes(app): return [Route('GET', 7, {fault})]",
    ],
    ids=["import", "service", "routes", "commands", "public", "metrics", "start", "route"],
)
@pytest_twisted.ensureDeferred
async def test_whatever_a_named_plugin_raises_at_the_start_the_start_ends_with_one_line(
    tmp_path: Path, text: str, fault: str
) -> None:
    (tmp_path / "mine.py").write_text("import asyncio\n" + text.format(fault=fault))
    config = tmp_path / "stackit.toml"
    config.write_text('listen = "tcp:0:interface=127.0.0.1"\n[plugins.mine]\nfile = "mine.py"\n')
    (tmp_path / "state").mkdir(mode=0o700)
    ended = await twistd(
        "--config", str(config), "--state-dir", str(tmp_path / "state"), "--admin-listen", "tcp:0:interface=127.0.0.1"
    )
    said = (ended.stdout + ended.stderr).decode()
    assert ended.status == 1
    lines = said.splitlines()
    (named,) = [number for number, line in enumerate(lines) if "plugin mine: " in line]
    assert all("mine.py" not in line for line in lines[:named])
    assert "Traceback" not in lines[named]
