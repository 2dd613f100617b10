"""Listening sockets that a supervisor hands over, as systemd does by socket activation.

The protocol is that of sd_listen_fds: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.protocol import Factory

from stackit.api.errors import StackitError
from stackit.api.reactor import Reactor

FIRST_DESCRIPTOR = 3
"""The first of the descriptors; the others follow it."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def start_environment() -> Mapping[str, str]:
    """Return the environment that the process was started with.

    Twisted takes ``LISTEN_FDS`` and ``LISTEN_PID`` out of ``os.environ`` as it is imported.
    """
    try:
        variables = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ
    pairs = (os.fsdecode(each).partition("=") for each in variables)
    return {name: value for name, _, value in pairs}


def inherited_sockets(
    environ: Mapping[str, str], pid: int, names: Collection[str], first: int = FIRST_DESCRIPTOR
) -> dict[str, list[socket.socket]]:
    """Return the sockets that were handed over to this process, by name; nothing if none were.

    Several may have one name. Raises StackitError for one whose name is none of ``names``, and for one that does not
    listen for streams.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(pid) or not count.isascii() or not count.isdigit():
        return {}
    given = environ.get("LISTEN_FDNAMES", "")
    given_names = given.split(":") if given else []
    found: dict[str, list[socket.socket]] = {}
    for number in range(int(count)):
        name = given_names[number] if number < len(given_names) else ""
        if name not in names:
            called = f"as {name!r}, which is the name of no side" if name else "without a name"
            raise StackitError(
                f"a socket was handed over (LISTEN_FDS) {called}: name it {' or '.join(names)}, by "
                "FileDescriptorName= in its .socket unit"
            )
        found.setdefault(name, []).append(_listening_socket(first + number, name))
    return found


def _listening_socket(descriptor: int, name: str) -> socket.socket:
    try:
        handed_over = socket.socket(fileno=descriptor)
    except OSError as problem:
        raise StackitError(
            f"the socket {name} that was handed over (LISTEN_FDS) is none: descriptor {descriptor}: {problem.strerror}"
        ) from None
    handed_over.set_inheritable(False)
    handed_over.setblocking(False)
    if (
        handed_over.family not in _FAMILIES
        or handed_over.type != socket.SOCK_STREAM
        or not handed_over.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        handed_over.close()
        raise StackitError(
            f"the socket {name} that was handed over (LISTEN_FDS) does not listen for connections: "
            "say ListenStream= with an address or a path, and Accept=no, in its .socket unit"
        )
    return handed_over


def adopt(reactor: Reactor, handed_over: socket.socket, factory: Factory[Any]) -> Any:
    """Accept connections from a socket that was handed over, and return the IListeningPort.

    Its stop leaves the socket as it is: connections that were not accepted wait in it for the next process.
    """
    if handed_over.family == socket.AF_UNIX:
        port = _UnixPort(handed_over, factory, reactor)
        port.startListening()
        return port
    adopted = cast("Any", reactor).adoptStreamPort(handed_over.fileno(), handed_over.family, factory)
    handed_over.close()  # the port has a descriptor of its own
    return adopted


class _UnixPort(unix.Port):
    """A port of a unix socket that belongs to somebody else.

    Twisted's own, given such a socket, opens its file to everybody, removes it at the end, and shuts the socket down.
    """

    _shouldShutdown = False  # of Twisted's transports: others listen on this socket, too

    def __init__(self, handed_over: socket.socket, factory: Factory[Any], reactor: Reactor) -> None:
        path = handed_over.getsockname()
        super().__init__(os.fsencode(path), factory, reactor=reactor)  # type: ignore[arg-type]  # zope: it is one
        self._handed_over = handed_over
        self._served = factory

    def startListening(self) -> None:
        self._served.doStart()
        self.connected = True
        self.socket = self._handed_over
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as Twisted's own does
        self.numberAccepts = 100
        self.startReading()  # type: ignore[no-untyped-call]  # it is Twisted's

    def connectionLost(self, reason: Any) -> None:
        tcp.Port.connectionLost(self, reason)  # and the file stays


def path_of(handed_over: socket.socket) -> Path | None:
    """Return the file of a unix socket; None for one without."""
    name = handed_over.getsockname() if handed_over.family == socket.AF_UNIX else ""
    return Path(os.fsdecode(name)) if name and not os.fsencode(name).startswith(b"\0") else None


Sockets = Mapping[str, Sequence[socket.socket]]
"""Sockets that were handed over, by name."""
