"""The timeouts of a client."""

from __future__ import annotations

import msgspec


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds.

    ``connect``: for a connection, name and TLS included. ``answer``: for a whole response. ``idle``: after which a
    connection that was not used is closed.
    """

    connect: float = 10.0
    answer: float = 15.0
    idle: float = 240.0
