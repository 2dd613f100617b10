"""Receipts, failures, redeliveries and replays, over HTTP and from a shell."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest_twisted
from outside import Notebook, check_log, command

from stackit.testing import PretendGitHub, RunningStackit, delivery
from stackit.testing.process import SECRET

MOODY = """
from pathlib import Path
from stackit import Permanent, on

@on("issues")
def moody(event):
    if not Path("well").exists():
        raise Permanent("not well today")
"""

FAILING_DISK = """
import sqlite3
from pathlib import Path
from stackit import hookimpl
from stackit.journal.sqlite.schema import Connection

run = Connection.execute

def execute(connection, sql, *parameters):
    done = run(connection, sql, *parameters)
    if sql == "COMMIT" and Path("failing").exists():
        raise sqlite3.OperationalError("disk I/O error")
    return done

Connection.execute = execute

@hookimpl
def stackit_observe(occurrence):
    pass
"""


FULL_DISK = """
import os
import resource
from pathlib import Path
from stackit import hookimpl

if Path(os.environ["FULL"]).exists():
    # No file may grow any more, which is what a full disk looks like to one process.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

@hookimpl
def stackit_observe(occurrence):
    pass
"""


async def with_moody(running_stackit: Any, tmp_path: Path) -> tuple[RunningStackit, Notebook]:
    (tmp_path / "moody.py").write_text(MOODY)
    notebook = Notebook(tmp_path / "notebook")
    plugins = {"notebook": notebook.table, "moody": {"module": "moody"}}
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": plugins}, plugins=tmp_path, environment=notebook.environment
    )
    return server, notebook


def get_well(server: RunningStackit) -> None:
    (server.state_dir.parent / "home" / "well").touch()


def states(receipt: Any) -> dict[str, str]:
    return {each["subscriber"]: each["state"] for each in receipt["handlings"]}


@pytest_twisted.ensureDeferred
async def test_a_redelivery_of_what_failed_runs_again_only_where_it_failed(
    running_stackit: Any, tmp_path: Path
) -> None:
    server, notebook = await with_moody(running_stackit, tmp_path)
    made = delivery("issues", secret=SECRET)
    first = await server.post(made)
    receipt = await server.wait_for(made.guid, "dead")
    assert states(receipt) == {"moody": "dead", "notebook:events": "done"}
    assert "not well today" in next(each["error"] for each in receipt["handlings"] if each["error"])

    get_well(server)
    again = await server.post(made)
    assert again.status == 202
    assert again.json() == {"id": first.json()["id"], "duplicate": False}
    assert states(await server.wait_for(made.guid)) == {"moody": "done", "notebook:events": "done"}
    assert notebook.seen()[made.guid] == 1
    third = await server.post(made)
    assert third.json() == {"id": first.json()["id"], "duplicate": True}
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_dead_letter_is_replayed_by_its_id_after_a_restart(running_stackit: Any, tmp_path: Path) -> None:
    server, notebook = await with_moody(running_stackit, tmp_path)
    sent = await server.deliver("issues", guid="dead")
    await server.wait_for("dead", "dead")
    assert await server.stop() == 0
    await server.start()
    assert states(await server.wait_for("dead", "dead")) == {"moody": "dead", "notebook:events": "done"}
    get_well(server)
    path = f"{{prefix}}/deliveries/{sent.json()['id']}"
    replayed = await server.admin("POST", f"{path}/replay", subscriber="moody")
    assert replayed.json()["replayed"] == 1
    assert states(await server.wait_for("dead")) == {"moody": "done", "notebook:events": "done"}
    assert notebook.seen()["dead"] == 1
    # To all who had it: handled again by each.
    assert (await server.admin("POST", f"{path}/replay")).json()["replayed"] == 2

    async def twice() -> bool:
        return notebook.seen()["dead"] == 2

    await server.until(twice, "the replay")
    shown = (await server.admin("GET", path, payload="1")).json()
    assert shown["payload"]["issue"]["number"] == 1
    assert (await server.admin("GET", "{prefix}/deliveries/999999")).status == 404
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_the_list_is_newest_first_filtered_and_paged(receiver: Any) -> None:
    server = receiver.server
    guids = [f"paged-{number}" for number in range(5)]
    for guid in guids:
        assert (await server.deliver("gollum", guid=guid)).status == 202
        await server.wait_for(guid)
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await server.admin("GET", "{prefix}/deliveries", event="gollum", limit="2", **cursor)).json()
        found += [each["delivery"] for each in page["deliveries"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found[:5] == guids[::-1]
    one = (await server.admin("GET", "{prefix}/deliveries", delivery="paged-3")).json()["deliveries"]
    assert [each["delivery"] for each in one] == ["paged-3"]
    assert set(one[0]) == {
        *("id", "delivery", "hook", "event", "action", "repo"),
        *("received_at", "via", "state", "visible_at", "handlings"),
    }
    for query, status in (
        ({"repo": "octo/stranger"}, 404),
        ({"subscriber": "nobody"}, 400),
        ({"event": "nothing"}, 200),
    ):
        answer = await server.admin("GET", "{prefix}/deliveries", **query)
        assert (answer.status, answer.json()["deliveries"]) == (status, [])
    assert (await server.admin("GET", "{prefix}/deliveries", state="lost")).status == 400


@pytest_twisted.ensureDeferred
async def test_a_shell_can_list_show_replay_and_sync(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    url = await pretend_github.create("octo/widget")
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "repos": [{"name": "octo/widget", "url": url}]}
    )
    pretend_github.webhook(server.webhook_url, server.secret or "")
    sent = await pretend_github.push("octo/widget")
    receipt = await server.wait_for(sent.guid, visible=True)

    listed = await command(server, "deliveries", "--event", "push")
    assert listed.status == 0, listed.stderr
    assert sent.guid in listed.stdout.decode()
    as_json = json.loads((await command(server, "deliveries", "--json", "--state", "done")).stdout)
    assert [each["delivery"] for each in as_json["deliveries"]] == [sent.guid]
    shown = await command(server, "delivery", receipt["id"], "--payload")
    assert "mirror" in shown.stdout.decode()
    assert "refs/heads/main" in shown.stdout.decode()
    assert (await command(server, "replay", receipt["id"])).stdout == b"1 handling will run again\n"
    await pretend_github.commit("octo/widget", "refs/heads/feature")
    assert "refs/heads/feature" in (await command(server, "sync", "octo/widget")).stdout.decode()
    assert "in_step" in (await command(server, "repos")).stdout.decode()
    missing = await command(server, "sync", "octo/stranger")
    assert missing.status == 1
    assert len(missing.stderr.splitlines()) == 1
    assert await server.stop() == 0
    gone = await command(server, "deliveries")
    assert gone.status == 1
    assert len(gone.stderr.splitlines()) == 1
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_what_a_failing_disk_kept_after_all_is_handled_once_though_its_sender_was_told_to_come_again(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "failing_disk.py").write_text(FAILING_DISK)
    notebook = Notebook(tmp_path / "notebook")
    plugins = {"notebook": notebook.table, "failing_disk": {"module": "failing_disk"}}
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": plugins}, plugins=tmp_path, environment=notebook.environment
    )
    failing = server.state_dir.parent / "home" / "failing"
    failing.touch()
    refused = await server.deliver("issues", guid="first")
    assert refused.status == 503
    assert (await server.admin("GET", "/readyz")).status == 503
    assert notebook.seen() == {}
    failing.unlink()

    async def is_ready() -> bool:
        return (await server.admin("GET", "/readyz")).status == 200

    await server.until(is_ready, "stackit to be ready again")
    await server.wait_for("first")
    again = await server.deliver("issues", guid="first")
    assert (again.status, again.json()["duplicate"]) == (202, True)
    assert (await server.deliver("issues", guid="second")).status == 202
    await server.wait_for("second")
    assert notebook.seen() == {"first": 1, "second": 1}
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_when_the_disk_is_full_it_says_so_and_recovers_by_itself(running_stackit: Any, tmp_path: Path) -> None:
    import resource  # noqa: PLC0415 - only Linux lets a process limit another

    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"notebook": notebook.table}}, environment=notebook.environment
    )
    assert (await server.deliver("issues", guid="before")).status == 202
    await server.wait_for("before")
    assert server.pid is not None
    largest = max(each.stat().st_size for each in server.state_dir.glob("journal.sqlite3*"))
    # No file may grow beyond this, which is what a full disk looks like to one process.
    unlimited = resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    full = None
    for number in range(300):
        full = await server.deliver("issues", guid=f"filling-{number}")
        if full.status != 202:
            break
    assert full is not None
    assert full.status == 503
    assert int(full.headers["retry-after"]) > 0
    ready = await server.admin("GET", "/readyz")
    assert ready.status == 503
    assert "journal" in " ".join(ready.json()["problems"])
    assert (await server.deliver("issues", secret="wrong")).status == 401
    assert (await server.ask("GET", f"{server.url}/healthz")).status == 200

    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, unlimited)

    async def taken() -> bool:
        return (await server.deliver("issues", guid="after")).status == 202

    await server.until(taken, "deliveries to be taken again")
    await server.wait_for("after")

    async def is_ready() -> bool:
        return (await server.admin("GET", "/readyz")).status == 200

    await server.until(is_ready, "stackit to be ready again")
    accepted = ["before", "after", *(f"filling-{each}" for each in range(number))]
    for guid in accepted:
        await server.wait_for(guid)
    assert set(accepted) <= set(notebook.seen())
    assert await server.stop() == 0
    journal = sqlite3.connect(server.state_dir / "journal.sqlite3")
    assert journal.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    journal.close()
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_started_on_a_full_disk_it_answers_503_until_there_is_room_and_then_works(
    running_stackit: Any, pretend_github: PretendGitHub, tmp_path: Path
) -> None:
    import resource  # noqa: PLC0415 - only Linux lets a process limit another

    url = await pretend_github.create("octo/widget")
    (tmp_path / "full_disk.py").write_text(FULL_DISK)
    notebook = Notebook(tmp_path / "notebook")
    plugins = {"notebook": notebook.table, "full_disk": {"module": "full_disk"}}
    server: RunningStackit = await running_stackit(
        config={"repos": [{"name": "octo/widget", "url": url}], "plugins": plugins},
        plugins=tmp_path,
        environment={**notebook.environment, "FULL": str(tmp_path / "full")},
    )
    (tmp_path / "full").touch()
    assert await server.stop() == 0

    async def is_ready() -> bool:
        return (await server.admin("GET", "/readyz")).status == 200

    for number, is_first_start in enumerate((True, False)):
        if is_first_start:
            shutil.rmtree(server.state_dir)
        await server.start()
        assert (await server.deliver("issues", guid=f"refused-{number}")).status == 503
        ready = await server.admin("GET", "/readyz")
        assert ready.status == 503
        assert "full" in " ".join(ready.json()["problems"])
        assert (await server.ask("GET", f"{server.url}/healthz")).status == 200
        assert (await server.deliver("issues", secret="wrong")).status == 401
        assert server.pid is not None
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await server.until(is_ready, "stackit to be ready")
        assert (await server.deliver("issues", guid=f"taken-{number}")).status == 202
        if not is_first_start:  # a pause could not be read at the start, and holds all the same
            assert (await server.receipt(f"taken-{number}") or {})["state"] == "pending"
            assert (await server.admin("POST", "{prefix}/subscribers/notebook:events/resume")).status == 200
        await server.wait_for(f"taken-{number}")
        if is_first_start:
            assert (await server.admin("POST", "{prefix}/subscribers/notebook:events/pause")).status == 200
        assert await server.stop() == 0
    assert set(notebook.seen()) == {"taken-0", "taken-1"}
    assert "the disk is full" in server.log
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_what_lay_in_a_journal_that_was_moved_away_and_back_is_all_there(
    running_stackit: Any, tmp_path: Path
) -> None:
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"notebook": notebook.table}}, environment=notebook.environment
    )
    journal, away = server.state_dir / "journal.sqlite3", tmp_path / "away"

    async def is_ready() -> bool:
        return (await server.admin("GET", "/readyz")).status == 200

    for number in range(3):
        assert (await server.deliver("issues", guid=f"before-{number}")).status == 202
        journal.rename(away)
        assert (await server.deliver("issues", guid=f"refused-{number}")).status == 503
        ready = await server.admin("GET", "/readyz")
        assert ready.status == 503
        assert f"was moved to {away}: move it back" in " ".join(ready.json()["problems"])
        away.rename(journal)
        await server.until(is_ready, "stackit to be ready again")
    await server.kill()
    await server.start()
    for number in range(3):
        await server.wait_for(f"before-{number}")
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_what_lay_in_a_journal_that_was_removed_is_there_again_after_doing_as_told(
    running_stackit: Any, tmp_path: Path
) -> None:
    notebook = Notebook(tmp_path / "notebook")
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"notebook": notebook.table}}, environment=notebook.environment
    )
    assert (await server.deliver("issues", guid="before")).status == 202
    journal = server.state_dir / "journal.sqlite3"
    journal.unlink()
    assert (await server.deliver("issues", guid="refused")).status == 503
    saved = journal.with_name("journal.sqlite3.saved")
    ready = await server.admin("GET", "/readyz")
    assert ready.status == 503
    assert f"saved in {saved}: stop stackit, remove" in " ".join(ready.json()["problems"])
    assert await server.stop() == 0
    for kind in ("wal", "shm"):
        journal.with_name(f"journal.sqlite3-{kind}").unlink()
    saved.rename(journal)
    await server.start()
    await server.wait_for("before")
    assert (await server.deliver("issues", guid="after")).status == 202
    await server.wait_for("after")
    assert notebook.seen()["after"] == 1
    assert await server.stop() == 0
    check_log(server.log)
