"""A handler that ends its process: after a few of these ends its event is a dead letter, and nothing else is."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import check_log

from stackit.testing import RunningStackit, payload_for
from stackit.testing.process import StackitFailed

HANDLERS = """
import os
import time
from pathlib import Path
from stackit import hookimpl, on

sleep = None


@hookimpl
def stackit_service(app):
    global sleep
    sleep = app.sleep


@on("issues")
async def fragile(event):
    if "ends" in event.payload:
        while not Path("sent").exists():
            await sleep(0.05)
        await sleep(0.5)
        if not Path("mended").exists():
            os.abort()


@on("issues", thread=True)
def slow(event):
    if "takes" in event.payload:
        time.sleep(event.payload["takes"])
"""


async def start(server: RunningStackit) -> None:
    """Start it as a supervisor does, which does not mind how soon it ends."""
    try:
        await server.start()
    except StackitFailed as problem:
        if "ended with status" not in str(problem):
            raise


@pytest_twisted.ensureDeferred
async def test_an_event_whose_handler_ends_the_process_is_given_up_after_three_times(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "fragile.py").write_text(HANDLERS)
    server: RunningStackit = await running_stackit(
        config={"plugins": {"fragile": {"module": "fragile"}}}, plugins=tmp_path
    )

    async def deliver(guid: str, repo: str, **more: Any) -> None:
        answer = await server.deliver("issues", {**payload_for("issues", "opened", repo), **more}, guid=guid)
        assert answer.status == 202

    await deliver("slow", "octo/slow", takes=1.5)
    await deliver("fragile", "octo/widget", ends=True)
    await deliver("behind", "octo/widget")
    home = server.state_dir.parent / "home"
    (home / "sent").touch()
    for _ in range(2):
        assert await server.ended() == -signal.SIGABRT
        await start(server)
    assert await server.ended() == -signal.SIGABRT
    await server.start()
    receipt = await server.wait_for("fragile", "dead")
    states = {each["subscriber"]: each for each in receipt["handlings"]}
    assert (states["fragile:fragile"]["state"], states["fragile:fragile"]["attempts"]) == ("dead", 1)
    assert states["fragile:fragile"]["error"] == (
        "its handler ended the process 3 times: by a crash in C, by an exit, by the memory that it took, or by a step "
        "without end (the system's log may tell); mend it, and replay the event"
    )
    assert [each["state"] for each in states.values()].count("done") == len(states) - 1 > 0
    await server.wait_for("slow")  # it was in a thread each time
    await server.wait_for("behind")
    for times in (1, 2):
        assert f"without a stop: {times} of the 3 times at which it becomes a dead letter" in server.log

    (home / "mended").touch()
    assert (await server.admin("POST", f"{server.prefix}/deliveries/{receipt['id']}/replay")).status in (200, 202)
    await server.wait_for("fragile")
    assert (server.state_dir / "steps").exists()
    assert await server.stop() == 0
    assert not (server.state_dir / "steps").exists()
    check_log(server.log)
