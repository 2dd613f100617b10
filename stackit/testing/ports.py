"""Ports for servers that are stopped and started again on the same one."""

from __future__ import annotations

import secrets
import socket
from contextlib import ExitStack

PORTS = range(20000, 32768)
"""Ports that Linux gives to no outgoing connection, and to nobody who asks for any port.

One of those could take the port of a server while that is stopped.
"""
_TRIES = 1000


def free_ports(count: int) -> tuple[int, ...]:
    """Return so many ports of 127.0.0.1 that are free; all are held until all are known."""
    found: list[int] = []
    with ExitStack() as held:
        for _ in range(_TRIES):
            if len(found) == count:
                break
            port = secrets.choice(PORTS)
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:  # somebody has it
                continue
            found.append(port)
    if len(found) < count:
        raise OSError(f"no port from {PORTS[0]} to {PORTS[-1]} is free")
    return tuple(found)
