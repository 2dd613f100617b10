"""A plugin collects the children of everybody: what stackit starts fails with a clear error, and nothing hangs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outside import all_ended, check_log, descendants, mirror_refs

from stackit.testing import PretendGitHub

WIDGET = "octo/widget"
BEGIN, END = "begin", "end"

COLLECTOR = """
import os, signal, threading, time
from contextlib import suppress
from stackit import on

over = threading.Event()

def collect():
    while not over.is_set():
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.0001)

class Ignoring:
    @on("watch.started")
    def begin(self, event):
        self.before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    @on("label.created")
    def end(self, event):
        signal.signal(signal.SIGCHLD, self.before)

class Waiting:
    @on("watch.started")
    def begin(self, event):
        self.thread = threading.Thread(target=collect, daemon=True)
        self.thread.start()

    @on("label.created")
    def end(self, event):
        over.set()
        last = os.posix_spawn("/bin/sh", ["sh", "-c", ":"], {})  # a thread that waits for a child hears of one
        self.thread.join()
        with suppress(ChildProcessError):
            os.waitpid(last, 0)
"""


@pytest.mark.parametrize("plugin", ["Ignoring", "Waiting"])
@pytest.mark.parametrize("gets_well", [True, False])
@pytest_twisted.ensureDeferred
async def test_a_mirror_whose_gits_somebody_else_collects_fails_with_the_reason_and_gets_well(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path, plugin: str, gets_well: bool
) -> None:
    (tmp_path / "collector.py").write_text(COLLECTOR)
    url = await pretend_github.create(WIDGET)
    await pretend_github.commit(WIDGET)
    server = await running_stackit(
        config={
            "repos": [{"name": WIDGET, "url": url}],
            "sync": {"interval": "0"},
            "plugins": {"collector": {"module": f"collector:{plugin}"}},
        },
        plugins=tmp_path,
    )
    pretend_github.webhook(server.webhook_url, server.secret)
    assert (await server.sync(WIDGET)).status == 200
    begun = await server.deliver("watch", action="started", guid=BEGIN)
    assert begun.status == 202
    await server.wait_for(BEGIN)
    sent = await pretend_github.push(WIDGET)

    async def failed() -> str | None:  # it is a matter of who is first
        answer = await server.sync(WIDGET)
        return answer.json()["error"] if answer.status == 502 else None

    reason = await server.until(failed, "a look to fail", within=60)
    assert "collected its exit status: a plugin that ignores SIGCHLD" in reason
    if plugin == "Ignoring":  # which leaves nothing to chance
        [stands] = (await server.admin("GET", "{prefix}/repos")).json()["repos"]
        assert (stands["state"], reason in stands["error"]) == ("failing", True)
    if gets_well:
        ended = await server.deliver("label", action="created", guid=END)
        assert ended.status == 202
        await server.wait_for(END)
        assert (await server.sync(WIDGET)).status == 200
        assert await mirror_refs(server, WIDGET) == await pretend_github.refs(WIDGET)
        await server.wait_for(sent.guid, visible=True)
    children = descendants(server.pid)
    assert await server.stop() == 0
    await all_ended(children)
    check_log(server.log)
