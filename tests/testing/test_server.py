"""A running stackit from the test kit: started, asked, crashed and stopped for real."""

from __future__ import annotations

import re
import socket
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from waiting import until

from stackit.testing import PretendGitHub, RunningFleet, RunningStackit, StackitFailed
from stackit.testing.toml import toml

MODULE = """
from pathlib import Path
from stackit import on

class Notebook:
    @on("issues.opened")
    def note(self, event):
        with Path("notes").open("a") as notes:
            notes.write(f"{event.repo} {event.delivery}\\n")
"""


def test_tables_are_written_as_toml() -> None:
    tables = {
        "listen": "tcp:8080",
        "sync": {"interval": "0"},
        "repos": [{"name": 'octo/wid"get', "refspecs": ["+refs/heads/*:refs/heads/*"]}],
        "plugins": {"mirror": {"concurrency": 4, "odd key": True, "emoji": "\N{GRINNING FACE}"}},
        "path": Path("/x"),
    }
    assert tomllib.loads(toml(tables)) == {**tables, "path": "/x"}


@pytest_twisted.ensureDeferred
async def test_a_plugin_of_a_directory_gets_its_events(running_stackit: Any, tmp_path: Path) -> None:
    (tmp_path / "notebook.py").write_text(MODULE)
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"notebook": {"module": "notebook:Notebook"}}}, plugins=tmp_path
    )
    answer = await server.deliver("issues", guid="11111111-1111-4111-8111-111111111111")
    assert answer.status == 202, server.log
    receipt = await server.wait_for("11111111-1111-4111-8111-111111111111")
    assert {each["subscriber"]: each["state"] for each in receipt["handlings"]} == {"notebook": "done"}
    notes = server.state_dir.parent / "home" / "notes"
    assert notes.read_text() == "octo/widget 11111111-1111-4111-8111-111111111111\n"
    assert (await server.deliver("issues", secret="wrong")).status == 401
    metrics = await server.metrics()
    assert metrics['stackit_deliveries_total{event="issues",outcome="queued"}'] == 1
    assert await server.stop() == 0
    assert "Traceback" not in server.log


@pytest_twisted.ensureDeferred
async def test_a_push_on_the_pretend_github_becomes_visible(
    running_stackit: Any, pretend_github: PretendGitHub
) -> None:
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    server: RunningStackit = await running_stackit(config={"repos": [{"name": "octo/widget", "url": url}]})
    pretend_github.webhook(server.webhook_url, server.secret or "")
    sent = await pretend_github.push("octo/widget")
    assert sent.status == 202
    await server.wait_for(sent.guid, visible=True)
    assert (await server.sync("octo/widget")).json() == {"changes": []}
    assert (await server.sync("octo/other")).status == 404


@pytest_twisted.ensureDeferred
async def test_after_a_crash_it_starts_again_with_the_same_state_and_ports(running_stackit: Any) -> None:
    server: RunningStackit = await running_stackit()
    address, first = server.url, server.pid
    sent = await server.deliver("push", guid="22222222-2222-4222-8222-222222222222")
    assert sent.status == 202
    assert await server.kill() == -9
    await server.start()
    assert server.url == address
    assert server.pid != first
    assert await server.wait_for("22222222-2222-4222-8222-222222222222")


@pytest_twisted.ensureDeferred
async def test_a_start_that_fails_says_why(running_stackit: Any) -> None:
    with pytest.raises(StackitFailed, match=r"ended with status 1 before stackit to answer:(.|\n)*colour"):
        await running_stackit(config={"colour": "red"})


FAILING = """
from stackit import Permanent, on

@on("issues")
def gives_up(event):
    raise Permanent("it is of no use")

@on("issues")
def goes_on(event):
    raise OSError("not now")

@on("push")
def works(push):
    pass
"""


@pytest_twisted.ensureDeferred
async def test_a_wait_ends_at_once_when_it_cannot_end_well(running_stackit: Any, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    plugins = {"failing": {"file": str(tmp_path / "failing.py")}, "mirror": {"enabled": False}}
    server: RunningStackit = await running_stackit(config={"plugins": plugins})
    await server.deliver("issues", guid="fails")
    await until(lambda: "handler failed for good" in server.log, "the log to tell")
    with pytest.raises(StackitFailed) as failed:
        await server.wait_for("fails", within="1h")
    lines = str(failed.value).splitlines()
    assert lines[0] == "delivery fails will never be done"
    assert any("failing:gives_up is dead (attempts: 1): Permanent: it is of no use" in line for line in lines)
    assert any(re.search(r'File ".*/failing.py", line 6, in gives_up', line) for line in lines)
    assert "handler failed for good" in str(failed.value)  # the log

    await server.deliver("push", guid="works")
    await server.wait_for("works")
    with pytest.raises(StackitFailed, match="delivery works will never be dead"):
        await server.wait_for("works", "dead", within="1h")


@pytest_twisted.ensureDeferred
async def test_a_wait_in_vain_says_how_far_the_delivery_is(running_stackit: Any, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING.replace("Permanent(", "OSError("))
    server: RunningStackit = await running_stackit(
        config={"plugins": {"failing": {"file": str(tmp_path / "failing.py")}}}
    )
    await server.deliver("issues", guid="fails")

    async def has_failed() -> bool:
        receipt = await server.receipt("fails")
        return receipt is not None and all(each["error"] for each in receipt["handlings"])

    await server.until(has_failed, "each handler to fail once")
    with pytest.raises(StackitFailed) as failed:
        await server.wait_for("fails", within="0.5s")
    assert str(failed.value).startswith("waited 0.5 s in vain for delivery fails to be done:\n")
    assert "failing:goes_on is pending (attempts: " in str(failed.value)
    assert "): OSError: not now" in str(failed.value)
    with pytest.raises(StackitFailed, match=r"waited 0.1 s in vain for delivery nobody-sent to be done"):
        await server.wait_for("nobody-sent", within=0.1)


@pytest_twisted.ensureDeferred
async def test_a_start_waits_for_a_port_that_somebody_took_since_the_stop(running_stackit: Any) -> None:
    server: RunningStackit = await running_stackit(config={"sync": {"interval": "0"}})
    known = server.admin_url
    assert await server.stop() == 0
    with socket.create_server(("127.0.0.1", urlsplit(known).port or 0)):
        starting = Deferred.fromCoroutine(server.start())
        await until(lambda: "Address already in use" in server.log, "a start in vain")
    await starting
    assert server.admin_url == known
    assert await server.stop() == 0


@pytest_twisted.ensureDeferred
async def test_a_node_starts_again_whose_database_was_not_heard_in_time(tmp_path: Path, postgres: str) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    fleet = RunningFleet(reactor, tmp_path, postgres, nodes=["a"])
    node = fleet["a"]
    node.cut()
    try:
        starting = Deferred.fromCoroutine(fleet.start())
        await until(lambda: "timeout expired" in node.log, "a start in vain")
        node.heal()
        await starting
    finally:
        await fleet.stop()
