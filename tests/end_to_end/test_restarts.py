"""Restarts of a stackit whose listening sockets a supervisor holds, as systemd does with ``.socket`` units."""

from __future__ import annotations

import itertools
import socket
import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_twisted
from outside import Notebook, all_handled, check_log, hang_up
from rawhttp import Client, request
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol

from stackit import sleep
from stackit.testing import RunningStackit, delivery, payload_for
from stackit.testing.daemon import Daemon
from stackit.testing.process import SECRET

QUIET: dict[str, Any] = {"sync": {"interval": "0"}, "plugins": {"ratelimit": {"burst": 100000}}}

IDLE = 0.9
"""Seconds of silence after which a sender may find its connection closed by a stackit that stops: a little less than
the second for which that waits."""

AS_THE_PROCESS = 'LISTEN_PID=$$ exec "$@"'
"""sh, which makes its process id known to the program that takes its place."""


class Supervised(RunningStackit):
    """A stackit that is started with sockets which a supervisor holds, from its first start to its last."""

    sockets: tuple[socket.socket, ...] = ()
    names = "public:admin"

    def _spawn(self) -> Daemon:
        argv, environment = self._command()
        environment |= {"LISTEN_FDS": str(len(self.sockets)), "LISTEN_FDNAMES": self.names}
        daemon = Daemon.spawn(
            self._reactor,
            ["/bin/sh", "-c", AS_THE_PROCESS, "sh", *argv],
            environment,
            descriptors=[each.fileno() for each in self.sockets],
        )
        self._daemons.append(daemon)
        return daemon

    def hold(self) -> None:
        """Listen where it is to be reached."""
        self.sockets = tuple(socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        public, admin = (each.getsockname()[1] for each in self.sockets)
        self._ports = public, admin


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Any]:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    made: list[Supervised] = []

    def make(**arguments: Any) -> Supervised:
        server = Supervised(reactor, tmp_path / "supervised", **arguments)
        (tmp_path / "supervised").mkdir()
        server.hold()
        made.append(server)
        return server

    yield make
    for server in made:
        pytest_twisted.blockon(Deferred.fromCoroutine(server.kill()))
        for each in server.sockets:
            each.close()


class Sender:
    """Sends signed deliveries one after the other until it is told to end, and notes the answers.

    One that keeps its connection sends the next delivery on it until an answer says that it was the last. If it was
    silent for a second, a stackit that stops has closed it: then it sends the delivery on another one.
    """

    def __init__(self, url: str, name: str, *, keeps: bool) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        self.answers: dict[str, int | str] = {}
        self.ended = False
        self._reactor: Any = reactor
        self._port = urlsplit(url).port or 0
        self._name = name
        self._keeps = keeps
        self._client: Client | None = None
        self._answered_at = 0.0

    async def send_all(self) -> None:
        for number in itertools.count():
            if self.ended:
                break
            guid = f"{self._name}-{number}"
            self.answers[guid] = await self._send(guid)
            await sleep(self._reactor, 0.02)
        await self._hang_up()

    async def _send(self, guid: str) -> int | str:
        signed = delivery("issues", {**payload_for("issues"), "mark": guid}, secret=SECRET, guid=guid)
        if self._client is None:
            endpoint = HostnameEndpoint(self._reactor, "127.0.0.1", self._port)
            self._client = await connectProtocol(endpoint, Client())
        client = self._client
        silence = self._reactor.seconds() - self._answered_at if self._answered_at else 0.0
        client.send(request("/api/v1/webhooks/github", headers=signed.headers, body=signed.body))
        found = await client.until(client._parse)
        if found is None:
            await self._hang_up()
            if silence > IDLE and not client.received:
                return await self._send(guid)
            return f"no answer, but {client.received!r}"
        answer, client.received = found
        if not self._keeps or answer.headers.get("connection") == "close":
            await self._hang_up()
        else:
            self._answered_at = self._reactor.seconds()
        status: int = answer.status
        return status

    async def _hang_up(self) -> None:
        client, self._client = self._client, None
        self._answered_at = 0.0
        if client is not None:
            await hang_up(client)


def in_the_journal(server: RunningStackit) -> Counter[str]:
    """Return how often each delivery is in the journal, read while stackit does not run."""
    with sqlite3.connect(server.state_dir / "journal.sqlite3") as journal:
        found = Counter(guid for (guid,) in journal.execute("SELECT delivery FROM events WHERE kind = 'delivery'"))
    journal.close()
    return found


@pytest_twisted.ensureDeferred
async def test_ten_restarts_refuse_nothing_and_lose_nothing(supervised: Any, tmp_path: Path) -> None:
    notebook = Notebook(tmp_path / "notebook")
    plugins = {**QUIET["plugins"], "notebook": notebook.table}
    server: Supervised = supervised(config={**QUIET, "plugins": plugins}, environment=notebook.environment)
    await server.start()
    senders = [Sender(server.url, f"new-{number}", keeps=False) for number in range(2)]
    senders += [Sender(server.url, f"kept-{number}", keeps=True) for number in range(2)]
    sending = [Deferred.fromCoroutine(each.send_all()) for each in senders]
    for _ in range(10):
        sent = len(senders[0].answers) + len(senders[2].answers)

        async def more(sent: int = sent) -> bool:
            return len(senders[0].answers) + len(senders[2].answers) > sent + 4

        await server.until(more, "deliveries to be taken")
        assert await server.stop() == 0
        await server.start()
    for each in senders:
        each.ended = True
    await DeferredList(sending, fireOnOneErrback=True)
    await all_handled(server)
    assert await server.stop() == 0
    answers = {guid: status for each in senders for guid, status in each.answers.items()}
    assert {guid: status for guid, status in answers.items() if status != 202} == {}
    assert in_the_journal(server) == dict.fromkeys(answers, 1)
    assert notebook.seen() == dict.fromkeys(answers, 1)
    assert server.log.count("public side on http://127.0.0.1:") == server.log.count("(handed over)") / 2 == 11
    check_log(server.log)


async def refused(server: Supervised) -> str:
    """Start, which must fail with one line: what it says."""
    assert await server._spawn().ended() == 1
    assert "Traceback" not in server.log
    (line,) = (line for line in server.log.splitlines() if "stackit: " in line)
    return line


@pytest_twisted.ensureDeferred
async def test_a_socket_that_fits_nothing_is_one_line(supervised: Any) -> None:
    server: Supervised = supervised(config=QUIET)
    server.names = "public:stackit.socket"
    assert "as 'stackit.socket', which is the name of no side: name it public or admin" in await refused(server)
