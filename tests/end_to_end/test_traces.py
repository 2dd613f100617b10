"""What the author of a plugin sees of a handler that fails, logs, prints or blocks, and an operator of a start."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from outside import check_log, command, shell, twistd

from stackit.testing import RunningStackit, delivery
from stackit.testing.deliveries import SignedDelivery
from stackit.testing.process import SECRET

AUTHOR = """
import logging
import threading
import time

from stackit import on
from twisted.internet import reactor
from twisted.internet.task import deferLater

log = logging.getLogger("author.notes")

@on("issues")
async def fails(event):
    log.debug("hidden")
    log.info("before %s", event.action)
    await deferLater(reactor, 0)
    print("after an await")
    step(event)

def step(event):
    token = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"
    raise ValueError("no\\nroom for " + token)

@on("issues", thread=True)
def threaded(event):
    log.warning("in a thread")

@on("watch")
def blocks(event):
    time.sleep(0.7)
"""


async def start(running_stackit: Any, tmp_path: Path, **config: Any) -> RunningStackit:
    (tmp_path / "author.py").write_text(AUTHOR)
    table = {"author": {"file": str(tmp_path / "author.py")}, "ratelimit": {"trusted_proxies": ["127.0.0.1/32"]}}
    server: RunningStackit = await running_stackit(config={"sync": {"interval": "0"}, "plugins": table, **config})
    return server


async def failed(server: RunningStackit, guid: str) -> dict[str, Any]:
    """The receipt of a delivery whose handler has failed."""

    async def has_failed() -> dict[str, Any] | None:
        receipt = await server.receipt(guid)
        done = receipt and all(each["attempts"] for each in receipt["handlings"])
        return receipt if done else None

    receipt: dict[str, Any] = await server.until(has_failed, "the handler to fail")
    return receipt


@pytest_twisted.ensureDeferred
async def test_a_failing_handler_is_seen_with_file_line_and_traceback_in_log_receipt_and_shell(
    running_stackit: Any, tmp_path: Path
) -> None:
    server = await start(running_stackit, tmp_path)
    for guid in ("first", "second"):
        await server.deliver("issues", guid=guid)
        receipt = await failed(server, guid)
    line = next(number for number, each in enumerate(AUTHOR.split("\n"), 1) if "raise ValueError" in each)
    handlings = {each["subscriber"]: each for each in receipt["handlings"]}
    assert handlings["author:fails"]["error"] == f"ValueError: no room for *** (in step, author.py:{line})"
    assert "traceback" not in handlings["author:fails"]

    shown = await command(server, "delivery", receipt["id"], "--traceback")
    assert shown.status == 0, shown.stderr
    said = shown.stdout.decode()
    assert "author:fails failed with\n  Traceback (most recent call last):\n" in said
    assert f'    File "{tmp_path}/author.py", line {line}, in step\n' in said
    assert said.rstrip().endswith("  ValueError: no\n  room for ***")
    listed = (await command(server, "deliveries", receipt["id"], "--traceback")).stdout.decode()
    assert listed.partition(" failed with\n")[2] == said.partition(" failed with\n")[2] != ""
    as_json = json.loads((await command(server, "delivery", receipt["id"], "--traceback", "--json")).stdout)
    tracebacks = {each["subscriber"]: each["traceback"] for each in as_json["handlings"]}
    assert tracebacks["author:threaded"] is None
    assert tracebacks["author:fails"].startswith("Traceback (most recent call last):\n")

    assert await server.stop() == 0
    check_log(server.log)
    lines = server.log.splitlines()
    at = [number for number, each in enumerate(lines) if "handler failed, will try again" in each]
    assert len(at) >= 2
    assert f'error="ValueError: no room for *** (in step, author.py:{line})"' in lines[at[0]]
    traced = [each.partition(" warn [stackit] | ")[2] for each in lines if " warn [stackit] | " in each]
    assert [each for each in traced if each.startswith("Traceback")] == ["Traceback (most recent call last):"]
    assert traced[-2:] == ["ValueError: no", "room for ***"]
    assert "ghp_" not in server.log


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest_twisted.ensureDeferred
async def test_what_a_handler_logs_and_prints_says_whose_it_is(
    running_stackit: Any, tmp_path: Path, log_format: str
) -> None:
    server = await start(running_stackit, tmp_path, log_format=log_format, log_level={"author": "debug"})
    sent = await server.deliver("issues", guid="guid-1")
    await failed(server, "guid-1")
    await server.deliver("watch", guid="guid-2")
    await server.wait_for("guid-2")
    assert await server.stop() == 0
    number = sent.json()["id"]
    expected = [
        ("debug", "author.notes", "hidden", "author:fails"),
        ("info", "author.notes", "before opened", "author:fails"),
        ("info", "stdout", "after an await", "author:fails"),
        ("warn", "author.notes", "in a thread", "author:threaded"),
    ]
    if log_format == "json":
        records = [json.loads(line) for line in server.log.splitlines()]
        for level, logger, message, subscriber in expected:
            wanted = {
                "level": level,
                "logger": logger,
                "message": message,
                "delivery": "guid-1",
                "id": number,
                "subscriber": subscriber,
            }
            assert any(wanted.items() <= each.items() for each in records), wanted
        # Another handler may be told of, too, where the machine stood still meanwhile.
        told = [each for each in records if each.get("occurrence") == "blocked"]
        (blocked,) = [each for each in told if each["subscriber"] == "author:blocks"]
        assert (blocked["level"], blocked["delivery"]) == ("warn", "guid-2")
        assert blocked["seconds"] >= 0.7
        first = next(each for each in records if each.get("occurrence") == "failed")
        assert first["traceback"].endswith("ValueError: no\nroom for ***")
    else:
        check_log(server.log)
        for level, logger, message, subscriber in expected:
            end = f" {level} [{logger}] {message} delivery=guid-1 id={number} subscriber={subscriber}\n"
            assert end in server.log, end
    assert "Starting factory" not in server.log
    assert "Stopping factory" not in server.log


@pytest_twisted.ensureDeferred
async def test_a_start_says_what_starts_and_behind_a_proxy_the_log_has_the_client(
    running_stackit: Any, tmp_path: Path
) -> None:
    server = await start(running_stackit, tmp_path, repos=[{"name": "octo/widget", "url": "file:///nonexistent"}])
    for client, secret in (("203.0.113.9", None), ("203.0.113.9", "wrong"), ("2001:db8::1", None)):
        await forwarded(server, client, secret)
    assert await server.stop() == 0
    (said,) = [line for line in server.log.splitlines() if " stackit starts " in line]
    assert re.search(
        r"starts version=\S+ configuration=/\S+ state_dir=/\S+ repositories=1 plugins=author,logger,metrics,mirror,",
        said,
    )
    accepted = [line for line in server.log.splitlines() if "] delivery accepted " in line]
    assert [re.findall(r"client=(\S+)", line) for line in accepted] == [["203.0.113.9"], ["2001:db8::1"]]
    (refused,) = [line for line in server.log.splitlines() if "] request refused " in line]
    assert "client=203.0.113.9" in refused


async def forwarded(server: RunningStackit, client: str, secret: str | None) -> None:
    made = delivery("watch", secret=secret or SECRET)
    headers = {**made.headers, "X-Forwarded-For": f"198.51.100.7, {client}"}
    await server.post(SignedDelivery(headers=headers, body=made.body, guid=made.guid))


@pytest.mark.parametrize("level", ["loud", '{ default = "info", "a.b" = "loud" }', "3", '["info"]'])
@pytest_twisted.ensureDeferred
async def test_a_level_that_is_none_stops_the_start_with_one_line(tmp_path: Path, level: str) -> None:
    config = tmp_path / "stackit.toml"
    config.write_text(f"log_level = {level if level[0] in '{3[' else repr(level)}\n")
    ended = await twistd("--config", str(config), "--state-dir", str(tmp_path / "state"))
    said = (ended.stdout + ended.stderr).decode()
    assert ended.status == 1
    assert len(said.splitlines()) == 1
    assert "log_level" in said
    assert "expected" in said


@pytest_twisted.ensureDeferred
async def test_a_pid_file_on_a_full_disk_stops_the_start_with_one_line(tmp_path: Path) -> None:
    script = "import sys; from twisted.scripts.twistd import run; sys.exit(run())"
    file = tmp_path / "twistd.pid"
    arguments = ("--nodaemon", f"--pidfile={file}", "stackit", "--state-dir", str(tmp_path / "state"))
    # No file may grow, which is what a full disk looks like to one process; coverage would want to write one, too.
    full = ("/bin/sh", "-c", 'ulimit -f 0; unset COVERAGE_PROCESS_CONFIG; exec "$@"', "sh")
    ended = await shell(*full, sys.executable, "-P", "-B", "-c", script, *arguments, "--listen", "tcp:0")
    said = (ended.stdout + ended.stderr).decode().splitlines()
    assert ended.status == 1
    assert [line for line in said if "stackit: " in line] == [
        f"stackit: the disk is full: the PID file {file} cannot be written; make room there, "
        "name another one with --pidfile=FILE, or say --pidfile= for none"
    ]
    assert "Traceback" not in "\n".join(said)
