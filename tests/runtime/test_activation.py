"""Sockets that are handed over, as systemd does it."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol

from stackit import StackitError
from stackit.runtime.activation import adopt, inherited_sockets, path_of, start_environment

NAMES = ("public", "admin")
PID = 4711


class Supervisor:
    """Holds sockets, and hands descriptors of them over from a number on that nobody else uses here."""

    FIRST = 200

    def __init__(self) -> None:
        self.held: list[socket.socket] = []
        self._given: list[int] = []

    def hold(self, held: socket.socket) -> socket.socket:
        self.held.append(held)
        return held

    def give(self, *names: str, **environ: str) -> dict[str, list[socket.socket]]:
        """Hand over all that it holds."""
        self._given = [os.dup2(each.fileno(), self.FIRST + number) for number, each in enumerate(self.held)]
        variables = {"LISTEN_PID": str(PID), "LISTEN_FDS": str(len(self.held)), "LISTEN_FDNAMES": ":".join(names)}
        found = inherited_sockets(variables | environ, PID, NAMES, self.FIRST)
        for each in found.values():
            for taken in each:
                self._given.remove(taken.fileno())
        return found

    def close(self) -> None:
        for each in self.held:
            each.close()
        self.take_back()

    def take_back(self) -> None:
        """Close the descriptors that were handed over and not taken."""
        for number in self._given:
            with contextlib.suppress(OSError):  # the one that was refused is closed
                os.close(number)
        self._given = []


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    made = Supervisor()
    yield made
    made.close()


def close(found: dict[str, list[socket.socket]]) -> None:
    for each in found.values():
        for taken in each:
            taken.close()


def test_sockets_come_by_name_and_several_may_have_one(supervisor: Supervisor) -> None:
    for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        supervisor.hold(socket.create_server((host, 0)))
    found = supervisor.give("public", "admin", "public")
    assert {name: [each.getsockname() for each in those] for name, those in found.items()} == {
        "public": [supervisor.held[0].getsockname(), supervisor.held[2].getsockname()],
        "admin": [supervisor.held[1].getsockname()],
    }
    assert not any(each.get_inheritable() or each.getblocking() for those in found.values() for each in those)
    close(found)


@pytest.mark.parametrize(
    "environ",
    [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": "0"}, {"LISTEN_FDS": ""}, {"LISTEN_FDS": "-1"}],
    ids=str,
)
def test_what_is_for_another_process_or_nothing_is_left_alone(supervisor: Supervisor, environ: dict[str, str]) -> None:
    supervisor.hold(socket.create_server(("127.0.0.1", 0)))
    assert supervisor.give("public", **environ) == {}


def refused(supervisor: Supervisor, *names: str) -> str:
    with pytest.raises(StackitError) as problem:
        supervisor.give(*names)
    supervisor.take_back()
    return str(problem.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("stackit.socket",), "as 'stackit.socket'"),
        ((), "without a name"),
        (("",), "without a name"),
    ],
    ids=str,
)
def test_one_that_matches_nothing_is_one_line_that_says_what_to_write(
    supervisor: Supervisor, names: tuple[str, ...], said: str
) -> None:
    supervisor.hold(socket.create_server(("127.0.0.1", 0)))
    line = refused(supervisor, *names)
    assert said in line
    assert "name it public or admin, by FileDescriptorName= in its .socket unit" in line


def test_one_that_does_not_listen_for_connections_is_one_line(supervisor: Supervisor) -> None:
    supervisor.hold(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    assert "the socket public that was handed over (LISTEN_FDS) does not listen" in refused(supervisor, "public")
    supervisor.held[0].close()
    supervisor.held = [socket.socket()]
    assert "Accept=no" in refused(supervisor, "public")


def test_a_descriptor_that_is_no_socket_is_one_line() -> None:
    variables = {"LISTEN_PID": str(PID), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "public"}
    with pytest.raises(StackitError, match="is none: descriptor 250: Bad file descriptor"):
        inherited_sockets(variables, PID, NAMES, 250)


def test_the_environment_is_that_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET_LATER", "1")
    assert "SET_LATER" not in start_environment()
    assert start_environment()["PATH"]


def listening_unix(path: Path | str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    return made


def greeting(text: bytes) -> Factory[Protocol]:
    """Say which of several listeners accepted a connection."""

    class Greeting(Protocol):
        def makeConnection(self, transport: Any) -> None:
            transport.write(text)
            transport.loseConnection()

    return Factory.forProtocol(Greeting)


async def ask(held: socket.socket) -> bytes:
    """Connect to a socket, and return what its listener says."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it
    from twisted.internet.threads import deferToThread  # noqa: PLC0415 - as above

    del reactor

    def talk() -> bytes:
        with socket.socket(held.family) as client:
            client.settimeout(60)
            client.connect(held.getsockname())
            return client.makefile("rb").read()

    said: bytes = await deferToThread(talk)
    return said


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("family", ["inet", "unix", "abstract"])
async def test_a_port_that_stops_leaves_the_socket_and_its_backlog_to_the_next(
    family: str, supervisor: Supervisor, tmp_path: Path
) -> None:
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    path = tmp_path / "socket"
    if family == "inet":
        held = supervisor.hold(socket.create_server(("127.0.0.1", 0)))
    else:
        held = supervisor.hold(listening_unix(path if family == "unix" else f"\0stackit-test-{os.getpid()}"))
    if family == "unix":
        path.chmod(0o600)
        assert path_of(held) == path
    else:
        assert path_of(held) is None

    first = adopt(reactor, supervisor.give("public")["public"][0], greeting(b"first"))
    assert await ask(held) == b"first"
    await first.stopListening()

    waiting: Deferred[bytes] = Deferred.fromCoroutine(ask(held))  # in the backlog, while nobody listens
    second = adopt(reactor, supervisor.give("public")["public"][0], greeting(b"second"))
    assert await waiting == b"second"
    await second.stopListening()
    if family == "unix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
