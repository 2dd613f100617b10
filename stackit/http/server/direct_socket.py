"""A transport's own socket, past the transport's buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import tcp


class DirectSocket:
    """Writes to and reads from the socket of a transport at once.

    Twisted's transport writes in the reactor's next turn, which costs more than a small response does.

    Invariant: bytes keep their order. So data goes to the socket only as long as the transport has nothing to write:
    from the first byte on that the socket does not take, everything goes through the transport, for good. And a read
    takes what the transport would read next. Errors are left to the transport, which meets them as well.
    """

    __slots__ = ("_recv", "_send", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._send: Callable[[bytes], int] | None = None
        self._recv: Callable[[int], bytes] | None = None
        if isinstance(transport, tcp.Connection):  # not what wraps one, as TLS does: it has more to do with bytes
            handle = transport.getHandle()
            self._send, self._recv = handle.send, handle.recv

    def write(self, data: bytes) -> None:
        """Write to the socket what it takes, and to the transport the rest."""
        if self._send is not None:
            try:
                sent = self._send(data)
            except OSError:  # no room now, or no connection any more
                sent = 0
            if sent == len(data):
                return
            self._send = None
            data = data[sent:]
        self._transport.write(data)

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes of what is here; none where there are none, or where the socket is wrapped."""
        if self._recv is None:
            return b""
        try:
            return self._recv(size)
        except OSError:
            return b""
