"""A listening unix socket: of its mode from the moment it exists, and in the place of one that a dead process left."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor
from stackit.text.endpoints import UnixSocket

_TRIES = 20
_PAUSE = 0.05  # seconds between two


def listen_unix(reactor: Reactor, at: UnixSocket, factory: Factory[Any]) -> Any:
    """Listen on a unix socket, and return the IListeningPort. Raises CannotListenError.

    A socket that nobody listens on any more is replaced. One that somebody listens on, and any other file, is not.
    """
    with _locked(Path(at.path).parent):
        _remove_stale(at.path)
        port_class: Any = _UnixPort  # it takes zope interfaces, which mypy does not know
        port = port_class(os.fsencode(at.path), factory, at.backlog, at.mode, reactor)
        port.startListening()
        port.remember()
    return port


class _UnixPort(unix.Port):
    """Twisted's port, without its lock file: that names a process id, which another process has after a restart."""

    _inode: tuple[int, int] | None = None

    def createInternetSocket(self) -> socket.socket:
        made: socket.socket = unix.Port.createInternetSocket(self)
        # The file gets the mode of the socket, less the umask. Twisted sets the mode only when the file is there.
        os.fchmod(made.fileno(), self.mode)
        return made

    def remember(self) -> None:
        """Remember which file is this port's own."""
        self._inode = _inode(self._name())

    def _name(self) -> bytes:
        host: Any = unix.Port.getHost(self)
        return bytes(host.name)

    def connectionLost(self, reason: Failure) -> None:
        name = self._name()
        if self._inode is not None and _inode(name) == self._inode:  # not that of a process that came after
            with suppress(FileNotFoundError):
                Path(os.fsdecode(name)).unlink()
        tcp.Port.connectionLost(self, reason)


def _inode(path: bytes) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on. Raises CannotListenError for a path that is taken."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise CannotListenError(None, path, OSError(errno.EEXIST, "a file that is no socket is there"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
            probe.setblocking(False)
            probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        Path(path).unlink()
        return
    except OSError:
        pass  # it is full, or another user's
    raise CannotListenError(None, path, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep two processes from replacing a socket at once: each would take the other's for one that nobody listens on.

    The lock is held for a moment only. After a few tries it goes on without: who holds it is no stackit that starts.
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield  # what is wrong with the directory, listening will say
        return
    try:
        for _ in range(_TRIES):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(handle)
