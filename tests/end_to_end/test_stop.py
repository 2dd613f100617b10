"""A stop ends what only waits, takes deliveries while it waits for work, says for what, and can be hurried.

The grace is an hour in these tests: what is waited for in vain would be waited for until the test fails.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import Notebook, check_log, connect
from rawhttp import request
from waiting import until

from stackit.testing import PretendGitHub, RunningStackit, delivery
from stackit.testing.process import SECRET

PATIENT = {"grace": "1h", "handlers": {"timeout": "1h"}}

WAITING = """
from pathlib import Path

from stackit import hookimpl, on


class Waiting:
    @hookimpl
    def stackit_service(self, app):
        self.app = app

    @hookimpl
    async def stackit_backstop(self):
        Path("round").touch()
        await self.app.sleep(3600)

    @on("issues")
    async def handle(self, event):
        if Path("waits").exists():
            Path("handled").touch()
            return
        Path("waits").touch()
        await self.app.sleep(3600)
"""

WORKING = """
from pathlib import Path

from stackit import on
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater


@on("issues")
async def work(event):
    Path("works").touch()
    while not Path("done").exists():
        await deferLater(reactor, 0.05)


@on("gollum")
async def hang(event):
    if not Path("hangs").exists():
        Path("hangs").touch()
        await Deferred()
"""


def home(server: RunningStackit) -> Path:
    """Return the directory in which stackit runs."""
    return server.state_dir.parent / "home"


async def exists(server: RunningStackit, *names: str) -> None:
    async def all_there() -> bool:
        return all((home(server) / name).exists() for name in names)

    await server.until(all_there, f"{names} to be there")


async def says(server: RunningStackit, text: str) -> None:
    async def said() -> bool:
        return text in server.log

    await server.until(said, f"{text!r} in the log")


def ask_to_end(server: RunningStackit, number: signal.Signals = signal.SIGTERM) -> None:
    assert server.pid is not None
    os.kill(server.pid, number)


async def attempts(server: RunningStackit, guid: str) -> list[tuple[str, int]]:
    receipt = await server.receipt(guid)
    assert receipt is not None
    return [(each["state"], each["attempts"]) for each in receipt["handlings"]]


@pytest_twisted.ensureDeferred
async def test_what_only_waits_ends_at_once_and_is_taken_up_by_the_next_start(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "waiting.py").write_text(WAITING)
    config = {**PATIENT, "plugins": {"waiting": {"module": "waiting:Waiting"}}}
    server: RunningStackit = await running_stackit(config=config, plugins=tmp_path)
    assert (await server.deliver("issues", guid="waits")).status == 202
    await exists(server, "waits", "round")
    assert await server.stop() == 0
    assert "failed" not in server.log
    await server.start()
    await server.wait_for("waits")
    assert (home(server) / "handled").exists()
    assert await attempts(server, "waits") == [("done", 1)]
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_push_that_waits_for_a_stale_upstream_ends_at_once_and_is_handled_after_the_next_start(
    running_stackit: Any, pretend_github: PretendGitHub
) -> None:
    url = await pretend_github.create("octo/widget")
    before = (await pretend_github.commit("octo/widget")).after
    server: RunningStackit = await running_stackit(
        config={**PATIENT, "repos": [{"name": "octo/widget", "url": url}], "sync": {"interval": "0"}}
    )
    assert (await server.sync("octo/widget")).status == 200
    moved = await pretend_github.commit("octo/widget")
    await pretend_github.set_ref("octo/widget", "refs/heads/main", str(before))
    pretend_github.webhook(server.webhook_url, server.secret or "")
    sent = await pretend_github.announce(moved)  # the remote does not show it yet
    assert sent.status == 202

    async def stale() -> bool:
        return server.log.count("looked at the remote") >= 3

    await server.until(stale, "the remote to be asked again")
    assert await server.stop() == 0
    assert "handler failed" not in server.log
    await pretend_github.set_ref("octo/widget", "refs/heads/main", str(moved.after))
    await server.start()
    await server.wait_for(sent.guid, visible=True)
    assert await attempts(server, sent.guid) == [("done", 1)]
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_while_it_waits_for_work_it_takes_deliveries_and_says_for_what_it_waits(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "working.py").write_text(WORKING)
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        config={
            **PATIENT,
            "plugins": {"working": {"module": "working"}, "notebook": notebook.table},
            "sync": {"interval": "0"},
        },
        plugins=tmp_path,
        environment=notebook.environment,
    )
    assert (await server.deliver("issues", guid="works")).status == 202
    await exists(server, "works")
    half = await connect(server)
    signed = delivery("gollum", secret=SECRET, guid="half")
    headers = {**signed.headers, "Expect": "100-continue"}  # which says when the request is there
    whole = request("/api/v1/webhooks/github", headers=headers, body=signed.body)
    assert (await half.send(whole[: -len(signed.body)]).answer()).status == 100
    half.send(signed.body[:-10])
    ask_to_end(server)
    await says(server, "stopping: waits for working:work (1 in hand), requests (1), up to 3600 s; another SIGTERM")
    # Nothing is refused while a handler works; it is for the next process.
    assert (await server.deliver("issues", guid="meanwhile")).status == 202
    # What was accepted is answered.
    assert (await half.send(signed.body[-10:]).answer()).status == 202
    await half.end()
    (home(server) / "done").touch()
    assert await server.ended() == 0
    assert notebook.seen() == {"works": 1}
    await server.start()
    for guid in ("works", "meanwhile"):
        await server.wait_for(guid)
    await exists(server, "hangs")
    await until(lambda: "half" in notebook.seen(), "the other handler of it")
    assert notebook.seen() == {"works": 1, "meanwhile": 1, "half": 1}
    ask_to_end(server)
    await says(server, "working:hang (1 in hand)")
    ask_to_end(server, signal.SIGINT)
    assert await server.ended() == 0
    assert "another signal came" in server.log
    await server.start()
    await server.wait_for("half")  # cancelled and not counted, and handled now
    assert set(await attempts(server, "half")) == {("done", 1)}
    assert await server.stop() == 0
    check_log(server.log)
