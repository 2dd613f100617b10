"""Twisted's endpoint strings of unix sockets."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactor

OWNER_ONLY = 0o600
"""The mode of a socket that nobody but its owner (and root) may connect to."""
ANYBODY = 0o666
"""Twisted's own default: everybody who reaches the directory may connect."""


class UnixSocket(msgspec.Struct, frozen=True):
    """A unix socket to listen on."""

    path: str
    mode: int
    backlog: int

    @property
    def is_private(self) -> bool:
        """Return True where the mode lets nobody but the owner (and root) connect."""
        return not self.mode & 0o077


def unix_socket(description: str, default_mode: int) -> UnixSocket | None:
    """Return the socket of a description such as ``unix:/run/x.sock:mode=660``; None for another kind of endpoint.

    ``default_mode`` is for a description that says none. ``lockfile`` is of no effect. Raises what Twisted's parser
    raises for a description that it cannot read.
    """
    kind, _, rest = description.partition(":")
    if kind != "unix":
        return None
    reactor = MemoryReactor()
    try:
        server: Any = serverFromString(reactor, f"unix:mode={default_mode:o}:{rest}")  # a later mode replaces it
    except TypeError:
        server = serverFromString(reactor, description)  # the mode stands there without its name
    # Listening in memory is the public way to learn what the description says.
    server.listen(Factory())
    path, _factory, backlog, mode, _lockfile = reactor.unixServers[0]
    return UnixSocket(path, mode, backlog)
