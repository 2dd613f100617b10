"""A supervisor like systemd: it holds the listening sockets of a program, hears its notifications, and restarts it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stackit.api.reactor import sleep
from stackit.testing.daemon import Daemon

AS_THE_PROCESS = 'LISTEN_PID=$$ exec "$@"'
"""sh, which makes its process id known to the program that takes its place."""

PATIENCE = 60.0


class Supervisor:
    """The supervisor of one program, which runs in ``directory``.

    ``sockets`` are the listening sockets by name, which it holds from the first start to ``close``. ``heard`` is all
    that the program has notified.
    """

    def __init__(
        self,
        reactor: Any,
        directory: Path,
        argv: Sequence[str],
        environment: Mapping[str, str],
        sockets: Mapping[str, socket.socket],
    ) -> None:
        self.heard: list[str] = []
        self._reactor = reactor
        self._directory = str(directory)
        self._sockets = sockets
        self._daemons: list[Daemon] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind(str(directory / "notify"))
        self._argv = ["/bin/sh", "-c", AS_THE_PROCESS, "sh", *argv]
        self._environment = {
            **environment,
            "NOTIFY_SOCKET": str(directory / "notify"),
            "LISTEN_FDS": str(len(sockets)),
            "LISTEN_FDNAMES": ":".join(sockets),
        }

    @property
    def log(self) -> str:
        """What the program has written, over all of its starts."""
        return "".join(daemon.output.decode(errors="replace") for daemon in self._daemons)

    async def start(self) -> None:
        """Start the program, and wait until it is ready."""
        daemon = Daemon()
        descriptors: dict[int, Any] = {0: "w", 1: "r", 2: "r"}
        descriptors |= {3 + number: each.fileno() for number, each in enumerate(self._sockets.values())}
        self._reactor.spawnProcess(
            daemon, self._argv[0], self._argv, env=self._environment, path=self._directory, childFDs=descriptors
        )
        self._daemons.append(daemon)
        await self._hear("READY=1")

    async def reload(self) -> str:
        """Have the program reload its configuration, wait until it is ready again, and return its status line."""
        self._daemons[-1].signal(signal.SIGHUP)
        await self._hear("RELOADING=1")
        return (await self._hear("READY=1")).partition("STATUS=")[2]

    async def stop(self) -> int:
        """End the program as a restart or an upgrade does, and return its exit status."""
        self._daemons[-1].signal(signal.SIGTERM)
        await self._hear("STOPPING=1")
        return await self._daemons[-1].ended()

    async def kill(self) -> None:
        """End the program as a power cut does."""
        if self._daemons:
            self._daemons[-1].signal(signal.SIGKILL)
            await self._daemons[-1].ended()

    def close(self) -> None:
        """Close the sockets."""
        for each in (self._socket, *self._sockets.values()):
            each.close()

    async def _hear(self, expected: str) -> str:
        """Wait for a notification that begins with a word, and return it."""
        deadline = self._reactor.seconds() + PATIENCE
        while True:
            try:
                self.heard.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                assert self._daemons[-1].status is None, f"it ended before {expected}:\n{self.log[-4000:]}"
                assert self._reactor.seconds() < deadline, f"no {expected} came:\n{self.log[-4000:]}"
                await sleep(self._reactor, 0.02)
                continue
            if self.heard[-1].startswith(expected):
                return self.heard[-1]


def on_loopback() -> socket.socket:
    """Listen on a free port of this machine."""
    return socket.create_server(("127.0.0.1", 0), backlog=512)


def on_path(path: Path) -> socket.socket:
    """Listen on a unix socket that only its owner may open."""
    listening = socket.socket(socket.AF_UNIX)
    os.fchmod(listening.fileno(), 0o600)
    listening.bind(str(path))
    listening.listen(512)
    return listening
