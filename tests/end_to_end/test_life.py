"""Starts that fail, and ends that do not."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outside import (
    Held,
    Notebook,
    all_ended,
    check_log,
    connect,
    descendants,
    git_runs,
    hang_up,
    mirror_refs,
    twistd,
)
from rawhttp import request

from stackit.subprocesses import Finished
from stackit.testing import PretendGitHub, RunningStackit

ANY_PORT = "tcp:0:interface=127.0.0.1"
QUIET = {"sync": {"interval": "0"}}

SLOW = """
from pathlib import Path
from stackit import on
from twisted.internet import reactor
from twisted.internet.task import deferLater

@on("issues")
async def slow(event):
    Path("began").touch()
    await deferLater(reactor, 0.2)
    Path("ended").touch()

@on("gollum")
async def endless(event):
    Path("endless").touch()
    await deferLater(reactor, 3600)
"""


def one_line(ended: Finished) -> str:
    """What a start that failed said, which must be one line and no traceback."""
    said = (ended.stdout + ended.stderr).decode()
    assert ended.status == 1, said
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if "stackit: " in line]
    assert len(lines) == 1, said
    return lines[0]


async def start_that_fails(directory: Path, text: str = "", *arguments: str, **environment: str) -> str:
    config = directory / "stackit.toml"
    config.write_text(text)
    state = directory / "state"
    state.mkdir(mode=0o700, exist_ok=True)
    where = {"--listen": ANY_PORT, "--admin-listen": ANY_PORT, "--state-dir": str(state), "--config": str(config)}
    where |= dict(zip(arguments[::2], arguments[1::2], strict=True))
    return one_line(await twistd(*(word for pair in where.items() for word in pair), **environment))


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 'red'", "colour"),
        ("listen = 8080", "listen"),
        ("[sync]\ninterval = 'soon'", "sync.interval"),
        ("[webhook]\nsecret_files = ['missing']", "missing"),
        ("[[repos]]\nname = 'octo'", "repos[1].name"),
        ("[[repos]]\nname = 'octo/widget'\n[[repos]]\nname = 'Octo/Widget'", "letter case"),
        ("api_prefixes = ['/api', '/api']", "api_prefixes"),
        ("[plugins.mirror]\nconcurency = 1", "concurency"),
        ("[plugins.nobody]", "nobody"),
        ("listen = ", "line 1"),
        ("[admin]\nlisten = 'tcp:0'", "token"),
    ],
)
async def test_a_configuration_that_cannot_be_understood_stops_the_start_with_one_line(
    tmp_path: Path, text: str, named: str
) -> None:
    config = tmp_path / "stackit.toml"
    config.write_text(text)
    (tmp_path / "state").mkdir(mode=0o700)
    line = one_line(await twistd("--config", str(config), "--state-dir", str(tmp_path / "state")))
    assert named in line


@pytest_twisted.ensureDeferred
async def test_bad_words_on_the_command_line_and_in_the_environment_are_named(tmp_path: Path) -> None:
    assert "--sync-interval" in await start_that_fails(tmp_path, "", "--sync-interval", "soon")
    assert "STACKIT_SYNC_INTERVAL" in await start_that_fails(tmp_path, STACKIT_SYNC_INTERVAL="soon")
    assert "STACKIT_LOG_FORMAT" in await start_that_fails(tmp_path, STACKIT_LOG_FORMAT="xml")
    assert "--listen" in await start_that_fails(tmp_path, "", "--listen", "nonsense:1")
    (tmp_path / "state").chmod(0o755)
    assert "chmod 700" in await start_that_fails(tmp_path)


@pytest_twisted.ensureDeferred
async def test_a_port_or_a_state_directory_that_is_taken_stops_the_start_with_one_line(
    running_stackit: Any, tmp_path: Path
) -> None:
    server: RunningStackit = await running_stackit(config=QUIET)
    taken = f"tcp:{server.url.rpartition(':')[2]}:interface=127.0.0.1"
    line = await start_that_fails(tmp_path, "", "--listen", taken)
    assert "public side" in line
    assert "in use" in line
    line = await start_that_fails(tmp_path, "", "--admin-listen", taken)
    assert "admin side" in line
    line = await start_that_fails(tmp_path, "", "--state-dir", str(server.state_dir))
    assert f"pid {server.pid}" in line
    # The one that was there did not notice.
    assert (await server.deliver("push")).status == 202
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_damaged_journal_stops_the_start_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    journal = tmp_path / "state" / "journal.sqlite3"
    journal.write_bytes(b"not a journal " * 1000)
    journal.chmod(0o600)
    assert "journal" in await start_that_fails(tmp_path)
    assert journal.read_bytes() == b"not a journal " * 1000


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_asked_to_end_it_finishes_what_runs_and_leaves_the_rest_for_the_next_start(
    running_stackit: Any, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    server: RunningStackit = await running_stackit(
        config={**QUIET, "grace": "1s", "plugins": {"slow": {"module": "slow"}}}, plugins=tmp_path
    )
    home = server.state_dir.parent / "home"
    assert (await server.deliver("issues", guid="slow")).status == 202
    assert (await server.deliver("gollum", guid="endless")).status == 202

    async def began() -> bool:
        return (home / "began").exists() and (home / "endless").exists()

    await server.until(began, "the handlers to begin")
    half = await connect(server)
    half.send(request("/api/v1/webhooks/github", "POST", {"Content-Length": "100"}))
    assert server.pid is not None
    os.kill(server.pid, number)
    assert await server.ended() == 0
    assert (home / "ended").exists()
    await hang_up(half)
    check_log(server.log)

    # What did not end is taken up again.
    (home / "endless").unlink()
    await server.start()

    async def again() -> bool:
        return (home / "endless").exists()

    await server.until(again, "the endless one to begin again")
    receipts = [await server.receipt(guid) for guid in ("slow", "endless")]
    assert [receipt and receipt["state"] for receipt in receipts] == ["done", "pending"]
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_asked_to_end_while_git_hangs_it_leaves_no_child(
    running_stackit: Any, pretend_github: PretendGitHub
) -> None:
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    with Held(pretend_github):  # the first clone is git's
        server: RunningStackit = await running_stackit(
            config={"repos": [{"name": "octo/widget", "url": url}], "sync": {"interval": "1s"}, "grace": "1s"}
        )
        assert (await server.deliver("push", guid="held")).status == 202
        await git_runs(server)
        children = descendants(server.pid)
        assert await server.stop() == 0
        await all_ended(children)
    check_log(server.log)
    await server.start()
    await server.wait_for("held")
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_a_start_and_an_end_at_any_instant_go_well(running_stackit: Any, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "notebook")
    config = {**QUIET, "plugins": {"notebook": notebook.table}}
    server: RunningStackit = await running_stackit(config=config, environment=notebook.environment)
    for number in range(3):
        assert (await server.deliver("issues", guid=f"last-{number}")).status == 202
        assert await server.stop() == 0
        await server.start()
        await server.wait_for(f"last-{number}")
    assert set(notebook.seen()) == {"last-0", "last-1", "last-2"}
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_git_that_outlived_a_crash_is_in_nobodys_way(running_stackit: Any, pretend_github: PretendGitHub) -> None:
    url = await pretend_github.create("octo/widget")
    await pretend_github.commit("octo/widget")
    server: RunningStackit = await running_stackit(config={**QUIET, "repos": [{"name": "octo/widget", "url": url}]})
    pretend_github.webhook(server.webhook_url, server.secret or "")
    with Held(pretend_github):
        # There is no mirror yet, so it is git that fetches.
        sent = await pretend_github.push("octo/widget")
        await git_runs(server)
        await server.kill()
    await server.start()
    await server.wait_for(sent.guid, visible=True)
    assert await mirror_refs(server, "octo/widget") == await pretend_github.refs("octo/widget")
    assert await server.stop() == 0
    check_log(server.log)
