"""Clients that mean harm: half-open connections, drips, garbage, floods; and a good delivery among them."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from outside import WEBHOOK, ask, check_log, connect, hang_up
from rawhttp import request
from twisted.internet.task import LoopingCall

from stackit.testing import RunningStackit
from stackit.testing.process import SECRET


async def start(running_stackit: Any, deadline: str = "2s", **more: Any) -> RunningStackit:
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "webhook": {"deadline": deadline}}, **more
    )
    return server


@pytest_twisted.ensureDeferred
async def test_who_is_idle_or_drips_is_cut_with_408(running_stackit: Any) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    server = await start(running_stackit, "3s")
    head = request(WEBHOOK, "POST", {"Content-Length": "100000"})
    idle, half, dripping, silent = [await connect(server) for _ in range(4)]
    idle.send(b"POST ")
    half.send(head + b"{")
    dripping.send(head)

    def drip() -> None:
        if not dripping.gone:
            dripping.send(b"{")

    dripper = LoopingCall(drip)
    dripper.clock = reactor
    dripper.start(0.05)
    for client in (idle, half, dripping):
        assert (await client.answer()).status == 408
        await client.end()
    await silent.end()
    dripper.stop()
    assert (await server.deliver("push")).status == 202
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_garbage_costs_its_sender_as_much_as_a_wrong_signature(running_stackit: Any) -> None:
    server: RunningStackit = await running_stackit(
        config={"sync": {"interval": "0"}, "plugins": {"ratelimit": {"burst": 3, "per_minute": 1}}}
    )
    for _ in range(3):
        assert (await ask(server, b"no request of HTTP at all\r\n\r\n")).status == 400
    assert (await server.ask("POST", server.webhook_url)).status == 429
    assert (await server.deliver("push")).status == 202
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_500_half_open_connections_keep_no_good_delivery_from_its_answer(running_stackit: Any) -> None:
    server = await start(running_stackit, "30s")
    beginnings = (
        b"",
        b"P",
        b"POST /api/v1/webhooks/github HTTP/1.1\r\nHost: x\r\nX-A: ",
        request(WEBHOOK, "POST", {"Content-Length": "1000000"}) + b"{",
        request(WEBHOOK, "POST", {"Transfer-Encoding": "chunked"}) + b"ffff\r\n{",
    )
    clients = []
    for number in range(500):
        client = await connect(server)
        client.send(beginnings[number % len(beginnings)])
        clients.append(client)
        if number % 50 == 49:
            assert (await server.deliver("push")).status == 202
    for client in clients:
        if not client.gone:
            client.send(b"{")  # one more drip from each
    for _ in range(10):
        assert (await server.deliver("push")).status == 202
    assert (await server.admin("GET", "/readyz")).status == 200
    # An end is not held up by them.
    assert await server.stop() == 0
    await hang_up(*clients)
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_garbage_gets_a_400_or_nothing_and_the_next_delivery_its_202(running_stackit: Any) -> None:
    server = await start(running_stackit)
    random = Random(8)
    garbage = [bytes(random.randrange(256) for _ in range(random.randrange(1, 4000))) + b"\r\n\r\n" for _ in range(60)]
    garbage += [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500) + b"\r\n\r\n",  # TLS, to a plain port
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        request(WEBHOOK, "POST", {"Content-Length": "9" * 5000}),
        request(WEBHOOK, "POST", {"Content-Length": "-1"}),
        request(WEBHOOK, "POST", {"Content-Length": "+1"}) + b"x",
        request(WEBHOOK, "POST", {"Content-Length": "1, 1"}) + b"x",
        request(WEBHOOK, "POST", {"Content-Length": "5", "Transfer-Encoding": "chunked"}) + b"0\r\n\r\n",
        request(WEBHOOK, "POST", {"Transfer-Encoding": "chunked, gzip"}) + b"0\r\n\r\n",
        request(WEBHOOK, "POST", {"Transfer-Encoding": "chunked"}) + b"zz\r\n\r\n",
        request(WEBHOOK, "POST", {"Transfer-Encoding": "chunked"}) + b"-1\r\n\r\n",
        b"POST " + WEBHOOK.encode() + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST " + WEBHOOK.encode() + b" HTTP/1.1\r\nHost: x\r\n X: folded\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
    ]
    for each in garbage:
        client = await connect(server)
        client.send(each)
        received = await client.end()
        assert not received or received.split(b" ")[1] in (b"400", b"408", b"411", b"413", b"401", b"429"), received
    assert (await server.deliver("push")).status == 202
    assert (await ask(server, request("/healthz", "GET"))).status == 200
    assert await server.stop() == 0
    check_log(server.log)
    assert server.log.count("\n") < len(garbage) + 20


@pytest_twisted.ensureDeferred
async def test_what_is_much_work_for_few_bytes_keeps_no_good_delivery_from_its_answer(running_stackit: Any) -> None:
    server = await start(running_stackit, "10m")
    claimed = {"X-Hub-Signature-256": "sha256=" + "0" * 64}
    kinds = (
        request(WEBHOOK, "POST", {**claimed, "Transfer-Encoding": "chunked"}) + b"1\r\nx\r\n" * 50_000,
        request(WEBHOOK, "POST", {**claimed, "Transfer-Encoding": "chunked"}) + b"1;x=y\r\nx\r\n" * 50_000,
        request("/nowhere", "GET") * 10_000,
        request(WEBHOOK, "POST", {**claimed, "Content-Length": "2000000"}) + bytes(2_000_000),
    )
    clients = []
    for number in range(80):
        client = await connect(server)
        client.send(kinds[number % len(kinds)])
        clients.append(client)
    for _ in range(30):
        assert (await server.deliver("push")).status == 202
    for number, client in enumerate(clients):
        assert (await client.answer()).status in ((400,), (400,), (404,), (401, 429))[number % len(kinds)]
    await hang_up(*clients)
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_large_bodies_of_strangers_are_not_kept(running_stackit: Any) -> None:
    server = await start(running_stackit, "20s")
    assert (await server.deliver("push")).status == 202
    before = memory(server.pid)
    clients = []
    for _ in range(40):
        client = await connect(server)
        client.send(request(WEBHOOK, "POST", {"Content-Length": str(20 * 2**20)}) + bytes(2 * 2**20))
        clients.append(client)
    for _ in range(20):
        assert (await server.deliver("push")).status == 202
    assert memory(server.pid) - before < 50 * 2**20
    await hang_up(*clients)
    assert await server.stop() == 0
    check_log(server.log)


@pytest_twisted.ensureDeferred
async def test_forms_that_are_all_escapes_take_no_more_memory_than_their_size_explains(running_stackit: Any) -> None:
    server = await start(running_stackit, "30s")
    assert (await server.deliver("push")).status == 202
    before = memory(server.pid)
    for number in range(2):
        text = json.dumps({"repository": {"full_name": "octo/widget"}, "ref": f"refs/heads/{number}"})
        body = b"payload=" + "".join(f"%{byte:02X}" for byte in text.encode()).encode() + b"%20" * 8_000_000
        digits = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "X-GitHub-Event": "push"}
        sent = request(WEBHOOK, headers={**headers, "X-Hub-Signature-256": f"sha256={digits}"}, body=body)
        assert (await ask(server, sent)).status == 202
    assert memory(server.pid, "VmHWM") - before < 400 * 2**20
    assert await server.stop() == 0
    check_log(server.log)


@pytest.fixture
def few_descriptors(tmp_path: Path) -> Path:
    """A Python that can have 96 descriptors."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nulimit -n 96\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    return python


@pytest_twisted.ensureDeferred
async def test_idle_connections_take_no_descriptor_that_a_delivery_needs(
    running_stackit: Any, few_descriptors: Path
) -> None:
    server = await start(running_stackit, "30s", python=few_descriptors)
    admin = urlsplit(server.admin_url).port
    idle = [await connect(server, admin) for _ in range(60)]
    idle += [await connect(server) for _ in range(60)]
    for client in idle[::2]:
        if not client.gone:
            client.send(b"POST ")
    for _ in range(20):
        assert (await server.deliver("push")).status == 202
        assert (await ask(server, request("/healthz", "GET"))).status == 200
        assert (await server.admin("GET", "/readyz")).status == 200
    assert await server.stop() == 0
    await hang_up(*idle)
    check_log(server.log)


HANGING = """
from twisted.internet.defer import Deferred

from stackit import Route, hookimpl


@hookimpl
def stackit_routes(app):
    return [Route("POST", "/hanging/{name}", lambda request: Deferred())]
"""


@pytest_twisted.ensureDeferred
async def test_long_polls_do_not_shut_the_admin_side(running_stackit: Any, tmp_path: Path) -> None:
    plugin = tmp_path / "hanging.py"
    plugin.write_text(HANGING)
    server = await running_stackit(
        config={"sync": {"interval": "0"}, "grace": "1s", "plugins": {"hanging": {"file": str(plugin)}}}
    )
    polls = []
    for number in range(400):
        client = await connect(server, urlsplit(server.admin_url).port)
        head = f"POST /hanging/{number} HTTP/1.1\r\nHost: localhost\r\nX-Stackit-CSRF: 1\r\n\r\n"
        polls.append(client.send(head.encode()))
    for _ in range(5):
        assert (await server.admin("GET", "/readyz")).status == 200
        assert (await server.admin("GET", "/metrics")).status == 200
        assert (await server.deliver("push")).status == 202
    refused = [client for client in polls if client.received]
    assert 200 < len(refused) < 400
    assert (await refused[0].answer()).status == 503
    assert await server.stop() == 0
    await hang_up(*polls)
    check_log(server.log)


def memory(pid: int | None, name: str = "VmRSS") -> int:
    """Bytes of memory that a process has now; ``VmHWM``: the most that it ever had."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields[name].split()[0]) * 1024
