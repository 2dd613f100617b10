"""Whether stackit lives and moves, as a load balancer and systemd see it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import check_log
from twisted.internet.defer import Deferred, DeferredList

from stackit.testing import RunningStackit, push_payload

HANGING_DISK = """
import time
from pathlib import Path
import stackit.runtime.heartbeat
from stackit import hookimpl
from stackit.journal.sqlite.schema import Connection

stackit.runtime.heartbeat.INTERVAL = 0.1
stackit.runtime.heartbeat.BOUND = 1.0
run = Connection.execute

def execute(connection, sql, *parameters):
    while sql == "COMMIT" and Path("hanging").exists():
        time.sleep(0.01)
    return run(connection, sql, *parameters)

Connection.execute = execute

@hookimpl
def stackit_observe(occurrence):
    pass
"""


@pytest_twisted.ensureDeferred
async def test_a_writer_that_hangs_is_unhealthy_and_named_and_gives_systemd_no_sign_of_life(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "hanging_disk.py").write_text(HANGING_DISK)
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    systemd.bind(str(tmp_path / "notify"))

    said: list[str] = []

    def heard() -> list[str]:
        """What was said since the last time, and all of it in ``said``."""
        found = []
        while True:
            try:
                found.append(systemd.recv(100).decode())
            except BlockingIOError:
                said.extend(found)
                return found

    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"hanging_disk": {"module": "hanging_disk"}}},
        plugins=tmp_path,
        environment={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"},
    )

    async def is_healthy() -> bool:
        return (await server.ask("GET", f"{server.url}/healthz")).status == 200

    async def is_unhealthy() -> bool:
        return not await is_healthy()

    async def barks() -> list[str]:
        return heard()

    async def has_barked() -> bool:
        heard()
        return len(said) > 1

    await server.until(is_healthy, "stackit to be healthy")
    await server.until(has_barked, "the first signs of life")
    assert said[:2] == ["READY=1", "WATCHDOG=1"]
    hanging = server.state_dir.parent / "home" / "hanging"
    hanging.touch()
    waiting = Deferred.fromCoroutine(server.deliver("issues", guid="waits"))
    await server.until(is_unhealthy, "the hanging writer to be noticed")
    ready = await server.admin("GET", "/readyz")
    assert ready.status == 503
    assert "the journal's writer has not moved" in " ".join(ready.json()["problems"])

    async def is_told() -> bool:
        return "systemd's watchdog gets no sign of life" in server.log

    await server.until(is_told, "the watchdog's notice")
    heard()
    assert await is_unhealthy()
    assert heard() == []
    hanging.unlink()
    assert (await waiting).status in (202, 204)
    await server.until(is_healthy, "stackit to be healthy again")
    await server.until(barks, "a sign of life")
    assert await server.stop() == 0
    assert "STOPPING=1" in heard()
    systemd.close()
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_writer_that_hangs_does_not_keep_stackit_from_ending(running_stackit: Any, tmp_path: Path) -> None:
    (tmp_path / "hanging_disk.py").write_text(HANGING_DISK)
    server: RunningStackit = await running_stackit(
        config={
            "grace": "0.1s",
            "sync": {"interval": "0"},
            "plugins": {"hanging_disk": {"module": "hanging_disk"}},
        },
        plugins=tmp_path,
    )
    assert (await server.deliver("push", push_payload("octo/widget"), guid="before")).status == 202
    (server.state_dir.parent / "home" / "hanging").touch()
    waiting = Deferred.fromCoroutine(server.deliver("push", push_payload("octo/other"), guid="waits"))

    async def is_unhealthy() -> bool:
        return (await server.ask("GET", f"{server.url}/healthz")).status == 503

    await server.until(is_unhealthy, "the hanging writer to be noticed")
    assert await server.stop() == 0
    ((answered, answer),) = await DeferredList([waiting], consumeErrors=True)
    assert not (answered and answer.status == 202)
    assert "the journal was not closed" in server.log
    check_log(server.log)
    (server.state_dir.parent / "home" / "hanging").unlink()
    await server.start()
    await server.wait_for("before")
    assert await server.stop() == 0
