"""A paused handler loses nothing, and hears of nothing, until it is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest_twisted
from outside import check_log, command
from waiting import until

from stackit.testing import RunningStackit

PLUGIN = """
from pathlib import Path
from stackit import on

def note(name, event):
    with Path(name).open("a") as seen:
        seen.write(f"{event.delivery}\\n")

@on("issues")
def slow(event):
    note("slow", event)
    if event.delivery == "broken":
        raise ValueError("no such order")

@on("issues")
def other(event):
    note("other", event)
"""


@pytest_twisted.ensureDeferred
async def test_what_came_in_a_pause_is_handled_once_and_in_order_after_kill_nine(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "orders.py").write_text(PLUGIN)
    config: dict[str, Any] = {"sync": {"interval": "0"}, "plugins": {"orders": {"module": "orders"}}}
    server: RunningStackit = await running_stackit(config=config, plugins=tmp_path)
    home = server.state_dir.parent / "home"

    def noted(name: str) -> list[str]:
        return (home / name).read_text().split()

    async def deliver(*guids: str) -> None:
        for guid in guids:
            assert (await server.deliver("issues", guid=guid)).status == 202

    async def state() -> dict[str, Any]:
        plugins = (await server.admin("GET", "{prefix}/plugins")).json()["plugins"]
        (found,) = [each for plugin in plugins for each in plugin["handlers"] if each["function"] == "slow"]
        return dict(found)

    await deliver("before")
    await server.wait_for("before")
    paused = await command(server, "pause", "orders:slow")
    assert paused.status == 0
    assert "orders:slow is paused: its events wait in the journal (0 events pending)" in paused.stdout.decode()
    sent = [f"first-{number}" for number in range(40)]
    await deliver(*sent)
    await server.kill()
    await server.start()
    await until(lambda: "paused since " in server.log, "the log to tell")
    second = [f"second-{number}" for number in range(40)]
    await deliver(*second)
    reloaded = await server.reload({**config, "handlers": {"concurrency": 3}})
    assert "outcome=done" in reloaded
    assert "handlers.concurrency" in reloaded
    await deliver("last")
    everything = [*sent, *second, "last"]

    async def all_at_the_other() -> bool:
        return set(everything).issubset(noted("other"))

    await server.until(all_at_the_other, "the other handler to go on")
    assert noted("slow") == ["before"]
    waiting = await state()
    assert (waiting["paused"], waiting["pending"], waiting["handled"]) == (True, len(everything), 0)
    status = (await server.admin("GET", "{prefix}/status")).json()
    assert status["ready"], status["problems"]
    assert {each["subscriber"]: each["paused"] for each in status["subscribers"]}["orders:slow"]
    metrics = await server.metrics()
    assert metrics['stackit_handler_paused{subscriber="orders:slow"}'] == 1
    assert metrics['stackit_handler_paused{subscriber="orders:other"}'] == 0
    assert metrics['stackit_handlings_stalled_seconds{subscriber="orders:slow"}'] == 0

    await server.kill()
    await server.start()
    assert (await command(server, "resume", "orders:slow")).status == 0
    await server.wait_for("last")
    assert noted("slow") == ["before", *everything]
    running = await state()
    assert (running["paused"], running["pending"], running["handled"]) == (False, 0, len(everything))

    await deliver("broken")

    async def failed() -> bool:
        return bool((await state())["failed"])

    await server.until(failed, "the error of a handler")
    broken = await state()
    assert "no such order" in broken["last_error"]
    assert broken["last_error_at"] is not None
    table = (await command(server, "plugins")).stdout.decode()
    assert "orders:slow" in table
    assert "running" in table
    unknown = await command(server, "pause", "nobody")
    assert unknown.status == 1
    assert "there is no subscriber nobody; there is " in unknown.stderr.decode()
    several = await command(server, "pause", "orders")
    assert "orders has several handlers, name one: orders:other, orders:slow" in several.stderr.decode()
    assert await server.stop() == 0
    check_log(server.log)
