"""A stream that keeps what is written to it, and its events as a client reads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from stackit.api.admin import StreamEnd


class StreamEvent(msgspec.Struct, frozen=True):
    """One event of a stream, as a browser would dispatch it."""

    name: str
    id: str
    data: Any


def parse_events(text: str) -> list[StreamEvent]:
    """The events of a stream: what a client that follows the standard makes of it."""
    found = []
    event_id = ""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        event_id = fields.get("id", event_id)
        if "data" in fields:
            found.append(StreamEvent(fields.get("event", "message"), event_id, json.loads(fields["data"])))
    return found


class MemoryStream:
    """A ``BodyStream`` in memory."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.reason: StreamEnd | None = None
        self._tell: list[Callable[[StreamEnd], object]] = []

    def write(self, data: bytes) -> None:
        assert self.reason is None, "the stream has ended"
        self.written.append(data)

    def finish(self) -> None:
        self.end("finished")

    def break_off(self) -> None:
        self.end("failed")

    def pace(self, pause: Callable[[], object], resume: Callable[[], object]) -> None:
        """Read all at once."""

    def end(self, reason: StreamEnd) -> None:
        self.reason = reason
        for tell in self._tell:
            tell(reason)

    def when_ended(self, tell: Callable[[StreamEnd], object]) -> None:
        self._tell.append(tell)

    @property
    def text(self) -> str:
        return b"".join(self.written).decode("ascii")

    @property
    def events(self) -> list[StreamEvent]:
        return parse_events(self.text)

    @property
    def names(self) -> list[str]:
        return [each.name for each in self.events]

    @property
    def last_id(self) -> str:
        """The id that a client comes back with."""
        return [line.removeprefix("id: ") for line in self.text.split("\n") if line.startswith("id: ")][-1]
