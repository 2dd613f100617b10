"""A listening unix socket: its mode from the first moment on, and what was left in its place."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from rawhttp import Answer, Client
from twisted.internet import reactor
from twisted.internet.endpoints import UNIXClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory

from stackit import Response, Route, StackitError
from stackit.config.load import load
from stackit.runtime import unix_port
from stackit.runtime.listen import address, listen
from stackit.text.endpoints import OWNER_ONLY
from stackit.web.admin.site import admin_site

LISTENER = """
import socket, sys, time
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("listens", flush=True)
time.sleep(60)
"""


@pytest.fixture
def _open_umask() -> Iterator[None]:
    """A process whose files everybody may read and write, as some are started."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "admin.sock"


def start(path: Path, options: str = "") -> Any:
    return listen(reactor, f"unix:{path}{options}", Factory(), "the admin side", unix_mode=OWNER_ONLY)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def exists(path: Path) -> bool:
    return os.path.lexists(path)


def remove(path: Path) -> None:
    path.unlink()


def another_listens(path: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", LISTENER, str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"listens\n"
    return process


@pytest.mark.usefixtures("_open_umask")
@pytest.mark.parametrize(
    ("options", "expected"),
    [("", 0o600), (":mode=600", 0o600), (":660", 0o660), (":mode=666", 0o666), (":lockfile=0:backlog=5", 0o600)],
)
@pytest_twisted.ensureDeferred
async def test_the_socket_has_the_mode_that_its_endpoint_says(path: Path, options: str, expected: int) -> None:
    port = start(path, options)
    assert mode(path) == expected
    assert sorted(path.parent.iterdir()) == [path]  # no lock file
    await port.stopListening()
    assert not exists(path)


@pytest.mark.usefixtures("_open_umask")
def test_there_is_no_instant_at_which_the_file_is_open_to_others(path: Path) -> None:
    port_class: Any = unix_port._UnixPort
    port = port_class(os.fsencode(path), Factory(), 50, OWNER_ONLY, reactor)
    bound = port.createInternetSocket()
    bound.bind(str(path))  # what comes next, Twisted's chmod, is not there yet
    assert mode(path) == 0o600
    bound.close()


@pytest_twisted.ensureDeferred
async def test_a_strict_umask_takes_nothing_from_a_mode_that_lets_others_in(path: Path) -> None:
    before = os.umask(0o077)
    try:
        port = start(path, ":mode=660")
    finally:
        os.umask(before)
    assert mode(path) == 0o660
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_socket_that_a_killed_process_left_is_replaced(path: Path) -> None:
    process = another_listens(path)
    process.kill()
    process.communicate()
    assert exists(path)
    # Twisted's own lock file would tell that the process is alive: another one has its number by now.
    path.with_name("admin.sock.lock").symlink_to(str(os.getpid()))
    port = start(path)
    assert mode(path) == 0o600
    await port.stopListening()


def test_a_socket_that_somebody_listens_on_is_in_use(path: Path) -> None:
    process = another_listens(path)
    try:
        with pytest.raises(StackitError, match=f"^the admin side cannot listen on unix:{path}: .* in use$"):
            start(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))  # it is there as before
        process.send_signal(signal.SIGSTOP)  # one that takes no connections is alive all the same
        with pytest.raises(StackitError, match="in use"):
            start(path)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_never_removed(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(StackitError, match="a file that is no socket is there"):
        start(path)
    assert exists(path)


def test_a_directory_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackitError, match=r"nowhere/x\.sock: No such file or directory$"):
        start(tmp_path / "nowhere" / "x.sock")


@pytest_twisted.ensureDeferred
async def test_a_socket_of_another_process_is_left_there_at_the_end(path: Path) -> None:
    port = start(path)
    remove(path)
    process = another_listens(path)
    await port.stopListening()
    assert exists(path)
    process.kill()
    process.communicate()


@pytest_twisted.ensureDeferred
async def test_a_socket_that_was_removed_meanwhile_is_no_trouble_at_the_end(path: Path) -> None:
    port = start(path)
    remove(path)
    await port.stopListening()


@pytest_twisted.ensureDeferred
async def test_the_rules_of_the_admin_side_hold_over_a_unix_socket(path: Path) -> None:
    config = load({"admin_listen": f"unix:{path}"}, {}, cwd=path.parent)
    routes = [Route(method, "{prefix}/x", lambda _: Response(body={})) for method in ("GET", "POST")]
    site = admin_site(config, routes, reactor)
    port = listen(reactor, config.admin.listen, site, "the admin side", unix_mode=OWNER_ONLY)
    assert address(port, config.admin.listen) == f"unix:{path}"

    async def ask(method: str, host: str, *headers: str) -> int:
        client = await connectProtocol(UNIXClientEndpoint(reactor, str(path)), Client())
        lines = [f"{method} /api/v1/x HTTP/1.1", f"Host: {host}", "Connection: close", *headers, "", ""]
        answer: Answer = await client.send("\r\n".join(lines).encode()).answer()
        return answer.status

    assert await ask("GET", "localhost") == 200
    assert await ask("GET", "localhost:8081") == 200
    assert await ask("GET", "evil.example.org") == 421
    assert await ask("POST", "localhost") == 403
    assert await ask("POST", "localhost", "X-Stackit-CSRF: 1") == 200
    await port.stopListening()
    await site.wind_down(0)
