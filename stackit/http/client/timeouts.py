"""The timeouts of a client."""

from __future__ import annotations

import msgspec


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds, or as a text such as ``"90s"``.

    ``connect``: for a connection, name and TLS included. ``answer``: for a whole response. ``idle``: after which a
    connection that was not used is closed.
    """

    connect: float | str = 10.0
    answer: float | str = 15.0
    idle: float | str = 240.0
