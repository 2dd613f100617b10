"""The client's end of a stream of events: its bytes as events, and the end of a connection that is silent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from twisted.internet.base import DelayedCall
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from stackit.api.errors import StackitError
from stackit.api.reactor import Timers

SILENCE = 45.0
"""Seconds without a byte after which nobody is at the other end: it shows every 15 seconds that it is."""

_LONGEST = 2**20
"""Bytes that an event may have."""


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream, as it came: its name, its id, and its data as text."""

    name: str
    id: str
    data: str


class EventClient(Protocol):
    """A client of the admin side that can watch a stream."""

    async def watch(
        self, path: str, query: Mapping[str, str], on_event: Callable[[ServerEvent], object], last_id: str | None = None
    ) -> str | None:
        """Have ``on_event`` called with each event of a stream, until it ends.

        Returns the id of the last event, with which ``last_id`` goes on behind it. Raises StackitError, with the way
        out, where no stream begins, and what ``on_event`` raises.
        """


class EventParser:
    """Reads server-sent events, as the HTML standard describes them; ``last_id`` is the id to come back with."""

    def __init__(self, on_event: Callable[[ServerEvent], object]) -> None:
        self.last_id: str | None = None
        self._on_event = on_event
        self._buffer = b""
        self._name = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> None:
        """Read more bytes. Raises StackitError for an event without end."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if len(self._buffer) > _LONGEST:
            raise StackitError("an event of the stream has no end: what answers is not the admin side of stackit")
        for line in lines:
            self._read(line.removesuffix(b"\r").decode("utf-8", "replace"))

    def _read(self, line: str) -> None:
        if not line:
            name, data = self._name or "message", "\n".join(self._data)
            self._name, self._data = "", []
            if data:
                self._on_event(ServerEvent(name=name, id=self.last_id or "", data=data))
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
        elif field == "id":
            self.last_id = value


class EventReader(TwistedProtocol):
    """Reads the body of a stream until it ends, or is silent; ``over`` fires then, and fails where reading failed."""

    transport: Any  # a zope interface, which mypy does not know

    def __init__(self, reactor: Timers, parser: EventParser) -> None:
        self.over: Deferred[None] = Deferred(lambda _: self._cut())
        self._reactor = reactor
        self._parser = parser
        self._timer: DelayedCall | None = None

    def connectionMade(self) -> None:
        self._timer = self._reactor.callLater(SILENCE, self._cut)

    def dataReceived(self, data: bytes) -> None:
        if self.over.called:
            return
        if self._timer is not None and self._timer.active():
            self._timer.reset(SILENCE)
        try:
            self._parser.feed(data)
        except Exception:  # noqa: BLE001 - what shows the event may fail in any way: the caller is told
            self.over.errback(Failure())
            self._cut()

    def connectionLost(self, _reason: Failure = connectionDone) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if not self.over.called:
            self.over.callback(None)

    def _cut(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
