"""The log under attack: one line for one thing, whatever strangers write."""

from __future__ import annotations

import json
import re
import signal
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest_twisted
from outside import WEBHOOK, ask, check_log, connect, hang_up
from rawhttp import Client, request

from stackit.testing import RunningStackit, delivery, payload_for, push_payload
from stackit.testing.process import SECRET

FORGED = "\n2026-01-01T00:00:00.000Z info [stackit] forged\r\nforged\u2028forged\x1b[2Jforged\x00\x85"

RAISES = """
from stackit import Permanent, hookimpl, on

@on("issues", "push")
def loud(event):
    raise Permanent(f"{event.payload['action'] if event.name == 'issues' else event.ref}")

@hookimpl
def stackit_admit(request):
    if b"x-forged" in request.headers:
        raise ValueError(request.headers[b"x-forged"][0].decode("latin-1"))
"""


def forged_body(**fields: Any) -> bytes:
    # json, because msgspec refuses what an attacker may send: a lone surrogate.
    return json.dumps(fields).encode()


def _received(client: Client) -> bytes | None:
    return client.received or None


async def attack(server: RunningStackit) -> None:
    """Put line breaks and worse into every field that a stranger chooses, signed and unsigned."""
    issues, push = payload_for("issues"), push_payload("octo/widget")
    signed = [
        ("issues", {**issues, "action": FORGED}),
        ("issues", {**issues, "repository": {**issues["repository"], "full_name": FORGED, "name": FORGED}}),
        ("issues", {**issues, "sender": {"login": FORGED}, "issue": FORGED}),
        ("repository_dispatch", payload_for("repository_dispatch", FORGED)),
        ("push", {**push, "ref": f"refs/heads/{FORGED}"}),
        ("push", {**push, "after": FORGED, "before": FORGED}),
        ("push", {**push, "repository": {**push["repository"], "owner": {"login": FORGED, "name": FORGED}}}),
        ("ping", {"zen": FORGED, "hook": FORGED}),
        ("push", {**push, "ref": f"refs/heads/\ud800{FORGED}"}),
        ("issues", {**issues, "action": f"\udc80{FORGED}"}),
    ]
    for event, payload in signed:
        made = delivery(event, forged_body(**payload), secret=SECRET)
        answer = await server.post(made)
        assert answer.status in (202, 204), (event, answer)
    # Bytes that no HTTP client would send.
    hostile = FORGED.encode("utf-8", "surrogatepass")
    body = msgspec.json.encode(issues)
    for name in ("X-GitHub-Event", "X-GitHub-Delivery", "X-GitHub-Hook-ID", "User-Agent", "Content-Type", "X-Forged"):
        made = delivery("issues", body, secret=SECRET)
        headers = {**made.headers, name: "MARK"}
        for mark in (b"a\rforged", b"a\x0bforged\x85\xe2\x80\xa8forged", b"a\r\n forged", hostile.replace(b"\n", b"")):
            sent = await ask(server, request(WEBHOOK, "POST", headers, body).replace(b"MARK", mark))
            assert sent.status in (202, 204, 400), (name, mark, sent)
    for line in (b"POST /api/\x0bforged HTTP/1.1", b"POST /%0aforged HTTP/1.1", b"FOR\x1bGED / HTTP/1.1", hostile):
        client = await connect(server)
        client.send(line + b"\r\nHost: forged\x0b\r\n\r\n")
        await client.until(partial(_received, client))
        await hang_up(client)
    for path in ("/%0aforged", "/api/v1/repos/octo/%0aforged", "/api/v1/deliveries/%0d%0aforged"):
        await server.admin("GET", path)
    await server.admin("POST", "{prefix}/repos/octo/%0aforged/sync")
    await server.admin("GET", "{prefix}/deliveries", event="\nforged", subscriber="\nforged", cursor="\nforged")


async def start(running_stackit: Any, tmp_path: Path, log_format: str) -> RunningStackit:
    (tmp_path / "loud.py").write_text(RAISES)
    config = {"sync": {"interval": "0"}, "plugins": {"loud": {"module": "loud"}}, "log_format": log_format}
    server: RunningStackit = await running_stackit(config=config, plugins=tmp_path)
    return server


async def settled(server: RunningStackit) -> None:
    sent = await server.deliver("watch", guid="the-last")
    assert sent.status in (202, 204)

    async def told() -> bool:
        return "the-last" in server.log

    await server.until(told, "the last line of the log")


@pytest_twisted.ensureDeferred
async def test_no_field_of_a_stranger_makes_a_line_of_its_own(running_stackit: Any, tmp_path: Path) -> None:
    server = await start(running_stackit, tmp_path, "text")
    await attack(server)
    await settled(server)
    assert await server.stop() == 0
    check_log(server.log)
    assert not [letter for letter in server.log if not letter.isprintable() and letter != "\n"]
    assert not [line for line in server.log.splitlines() if line.endswith("[stackit] forged")]


@pytest_twisted.ensureDeferred
async def test_every_line_of_a_json_log_is_an_object(running_stackit: Any, tmp_path: Path) -> None:
    server = await start(running_stackit, tmp_path, "json")
    await attack(server)
    await settled(server)
    assert await server.stop() == 0
    lines = [json.loads(line) for line in server.log.splitlines()]
    for line in lines:
        assert {"time", "level", "logger", "message"} <= line.keys()
        assert "traceback" not in line or line["message"].startswith(("handler failed", "plugin loud: ")), line
    accepted = [line for line in lines if line["message"] == "delivery accepted" and line.get("event") == "push"]
    assert accepted
    assert {"delivery", "repo", "outcome", "id"} <= accepted[0].keys()


CHATTY = """
from stackit import on

@on("issues")
def chatty(event):
    for _ in range(1000):
        print("x" * 5000)
"""


@pytest_twisted.ensureDeferred
async def test_a_log_that_nobody_reads_holds_nothing_up_and_tells_what_was_lost_when_it_is_read_again(
    running_stackit: Any, tmp_path: Path
) -> None:
    (tmp_path / "chatty.py").write_text(CHATTY)
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"chatty": {"module": "chatty"}}}, plugins=tmp_path
    )
    stdout = server._daemons[-1].transport.pipes[1]
    stdout.stopReading()
    for number in range(3):
        assert (await server.deliver("issues", guid=f"unread-{number}")).status == 202
        await server.wait_for(f"unread-{number}")
    metrics = (await server.admin("GET", "/metrics")).body.decode()
    lost = re.search(r"^stackit_log_lines_dropped_total (\d+)", metrics, re.MULTILINE)
    assert lost is not None
    assert float(lost[1]) > 1000
    stdout.startReading()

    async def is_told() -> bool:
        return "log lines were dropped" in server.log

    await server.until(is_told, "the log to tell what was lost")
    assert (await server.deliver("issues", secret="wrong")).status == 401
    stdout.stopReading()
    assert (await server.deliver("issues", guid="last")).status == 202
    server._daemons[-1].signal(signal.SIGTERM)
    assert await server.ended() == 0  # also while nobody reads
    check_log(server.log[: server.log.rindex("\n")])
