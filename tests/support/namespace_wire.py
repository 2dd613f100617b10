"""A wire to a PostgreSQL that loses every packet while it is cut: a pair of network interfaces, one in a namespace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path

from twisted.internet.defer import Deferred, succeed

from stackit.api.reactor import Reactor
from stackit.testing.relay import Relay

_FORWARD = """
import asyncio, os, sys

host, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]

async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()

async def joined(reader, writer):
    there, back = await asyncio.open_unix_connection(path)
    await asyncio.gather(pump(reader, back), pump(there, writer))

async def main():
    server = await asyncio.start_server(joined, host, port)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until it is closed, also by the end of who started this
    os._exit(0)

asyncio.run(main())
"""
_IP = shutil.which("ip") or "ip"
_PATIENCE = 60.0
_numbers = count()


def can_make_namespaces() -> bool:
    """Return whether this process may make network namespaces, and interfaces that lead there."""
    if os.geteuid() != 0 or shutil.which(_IP) is None:
        return False
    place = _Place()
    try:
        place.make()
    except subprocess.CalledProcessError:
        return False
    finally:
        place.remove()
    return True


class _Place:
    """A namespace with an interface that leads there, of which no other process and no other wire has any part."""

    def __init__(self) -> None:
        number = next(_numbers)
        self.name = f"stackit-{os.getpid()}-{number}"
        self._link = f"st{os.getpid() % 10**7}n{number}"
        network = f"10.213.{os.getpid() % 256}"
        self.host = f"{network}.{number * 4 % 256 + 2}"
        self._near = f"{network}.{number * 4 % 256 + 1}"

    def make(self) -> None:
        """Raises CalledProcessError."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "inside", "netns", self.name)
        _ip("addr", "add", f"{self._near}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")
        _ip("-n", self.name, "addr", "add", f"{self.host}/30", "dev", "inside")
        _ip("-n", self.name, "link", "set", "inside", "up")

    def remove(self) -> None:
        """Remove what there is of it, and wait until the interface is gone."""
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self.name)
        deadline = time.monotonic() + _PATIENCE
        while Path(f"/sys/class/net/{self._link}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)


class Wire(Relay):
    """A way to a server whose Unix socket is in ``directory``. What is sent while it is cut is lost."""

    def __init__(self, _reactor: Reactor, port: int, directory: Path) -> None:
        self.is_cut = False
        self._served = port
        self._place = _Place()
        self._place.make()
        self.host = self._place.host
        argv = [_IP, "netns", "exec", self._place.name, sys.executable, "-c", _FORWARD, self.host, str(port)]
        socket = directory / f".s.PGSQL.{port}"
        self._forwarder = subprocess.Popen(
            [*argv, str(socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
        )
        assert self._forwarder.stdout is not None
        assert self._forwarder.stdout.readline() == b"ready\n"

    @property
    def port(self) -> int:
        return self._served

    def cut(self) -> None:
        self.is_cut = True
        _ip("-n", self._place.name, "link", "set", "inside", "down")

    def heal(self) -> None:
        if self.is_cut:
            self.is_cut = False
            _ip("-n", self._place.name, "link", "set", "inside", "up")

    def close(self) -> Deferred[None]:  # type: ignore[override]  # it may be awaited, too
        self._forwarder.kill()
        self._forwarder.communicate()
        self._place.remove()
        return succeed(None)


def _ip(*arguments: str) -> None:
    subprocess.run([_IP, *arguments], check=True, capture_output=True, timeout=_PATIENCE)
