"""The feed: each occurrence is encoded once, and goes to every stream that wants it."""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

import msgspec
from twisted.internet.base import DelayedCall
from twisted.logger import LogLevel

from stackit.api.admin import BodyStream, StreamEnd
from stackit.api.hookimpl import hookimpl
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Timers
from stackit.live import sse
from stackit.live.filters import Filter
from stackit.live.groups import MOST_AT_ONCE, Entry, Group, Groups
from stackit.runtime.log_lines import json_line
from stackit.secrets.redactor import Redact
from stackit.text.logfmt import KeyValues

KEPT = 512
"""Occurrences that are kept for clients that come back."""
INTERVAL = 0.25
"""Seconds between two writes to the same streams: the first occurrence after a silence goes out at once."""
HEARTBEAT = 15.0
LIFETIME = 3600.0
"""Seconds after which a stream ends; its client connects again, and goes on where it was."""
MOST_ENCODED = 32 * 2**10
"""Bytes of occurrences that are encoded between two writes. Under a storm, the rest is told by a ``reset``."""
_MOST_REPLAYED = 64 * 2**10
_LEVELS = {"info": LogLevel.info, "warn": LogLevel.warn, "error": LogLevel.error}
_FEW_CHANGES = 20


class Feed:
    """An observer of occurrences. Nothing is encoded while nobody listens, and no stream is waited for.

    ``ended`` counts the streams that have ended, by the reason; ``sent`` and ``skipped`` count occurrences once for
    each stream.
    """

    def __init__(self, *, reactor: Timers, now: Callable[[], float], redact: Redact, node: str = "") -> None:
        """``now`` is the wall clock. ``node`` is this one's name, which each occurrence has; "" without a fleet."""
        self._node = node
        self._reactor = reactor
        self._now = now
        self._redact = redact
        self._start = secrets.token_hex(4)  # ids of another start are told apart by it
        self._count = 0
        self._ring: deque[Entry] = deque(maxlen=KEPT)
        self._groups = Groups()
        self._streams: dict[BodyStream, tuple[Group, float]] = {}  # with the time of the beginning
        self._encoded = 0
        self._flushed_at = -INTERVAL
        self._flushing: DelayedCall | None = None
        self._beating: DelayedCall | None = None
        self.stopping = False
        self.ended: Counter[StreamEnd] = Counter()
        self.sent = 0
        self.skipped = 0

    def __len__(self) -> int:
        return len(self._streams)

    # -- what happens -------------------------------------------------------------

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        """Keep an occurrence for a while, and offer it to those who listen."""
        self._count += 1
        entry = Entry(self._count, self._now(), occurrence)
        if occurrence.request is not None or occurrence.changes is not None or occurrence.traceback is not None:
            self._slim(entry)
        self._ring.append(entry)
        if self._streams:
            self._offer(entry)

    def _slim(self, entry: Entry) -> None:
        """Keep no more of an occurrence than is shown: it may have 100,000 changes."""
        changes = entry.occurrence.changes
        if changes is not None and len(changes) > _FEW_CHANGES:
            self._encode(entry)
            changes = None
        entry.occurrence = msgspec.structs.replace(entry.occurrence, changes=changes, request=None, traceback=None)

    def _offer(self, entry: Entry) -> None:
        # In a storm most of what happens is only counted, which costs the receiver as little as can be.
        occurrence, is_wanted = entry.occurrence, False
        name = occurrence.name
        for group in self._groups.candidates(occurrence):
            if name in group.hidden or (group.names is not None and name not in group.names):
                continue
            is_wanted = True
            if group.skipped or group.size >= MOST_AT_ONCE or self._encoded >= MOST_ENCODED:
                group.skipped += 1
                continue
            if entry.data is None:
                self._encoded += len(self._encode(entry))
            group.add(self._encode(entry))
        if is_wanted and self._flushing is None:
            delay = max(0.0, self._flushed_at + INTERVAL - self._reactor.seconds())
            self._flushing = self._reactor.callLater(delay, self._flush_all)

    def _encode(self, entry: Entry) -> bytes:
        if entry.data is None:
            occurrence = entry.occurrence
            fields = occurrence.fields()
            if self._node:
                fields = {**fields, "node": self._node}
            said = {
                "log_time": entry.time,
                "log_level": _LEVELS[occurrence.level],
                "log_namespace": "stackit",
                "summary": occurrence.summary,
                "fields": KeyValues.of(occurrence.summary, fields),
                "occurrence": occurrence.name,
            }
            entry.data = sse.event(occurrence.name, self._id(entry.number), json_line(said, self._redact))
        return entry.data

    def _id(self, number: int) -> str:
        return f"{self._start}-{number}"

    # -- those who listen ---------------------------------------------------------

    def join(self, stream: BodyStream, wanted: Filter, last_id: str | None) -> None:
        """Write to a stream from now on, or from behind the event of an id on. It ends when its time is over."""
        group = self._groups.group(wanted)
        self._flush(group)  # or the new stream would have what the others of its group wait for
        begin = sse.beginning(self._id(self._count) if last_id is None else None)
        stream.write(begin if last_id is None else begin + self._missed(wanted, last_id))
        self._streams[stream] = (group, self._reactor.seconds())
        group.streams[stream] = None
        stream.when_ended(partial(self._leave, stream))
        if self._beating is None:
            self._beating = self._reactor.callLater(HEARTBEAT, self._beat)

    def _missed(self, wanted: Filter, last_id: str) -> bytes:
        """Return the events behind that of an id; a reset, where these are not kept or too many."""
        start, _, number = last_id.rpartition("-")
        last = int(number) if start == self._start and number.isascii() and number.isdigit() else -1
        oldest = self._ring[0].number if self._ring else self._count + 1
        if not oldest - 1 <= last <= self._count:
            return self._reset("gap", None)
        pieces: list[bytes] = []
        size = 0
        for entry in self._ring:
            if entry.number > last and wanted.passes(entry.occurrence):
                if size >= _MOST_REPLAYED:
                    return b"".join(pieces) + self._reset("gap", None)
                pieces.append(self._encode(entry))
                size += len(pieces[-1])
        return b"".join(pieces)

    def _reset(self, reason: str, skipped: int | None) -> bytes:
        data = msgspec.json.encode({"reason": reason, "skipped": skipped}).decode("ascii")
        return sse.event("reset", self._id(self._count), data)

    def _leave(self, stream: BodyStream, reason: StreamEnd) -> None:
        group, _ = self._streams.pop(stream)
        self.ended[reason] += 1
        self._groups.leave(group, stream)
        if not self._streams:
            for timer in (self._flushing, self._beating):
                if timer is not None and timer.active():
                    timer.cancel()
            self._flushing = self._beating = None

    # -- time ---------------------------------------------------------------------

    def _flush_all(self) -> None:
        self._flushing = None
        self._flushed_at = self._reactor.seconds()
        self._encoded = 0
        for group in self._groups.all():
            self._flush(group)

    def _flush(self, group: Group) -> None:
        data, events, skipped = group.take()
        if skipped:
            data += self._reset("flood", skipped)
        if data:
            self.sent += events * len(group.streams)
            self.skipped += skipped * len(group.streams)
            for stream in tuple(group.streams):
                stream.write(data)

    def _beat(self) -> None:
        """Show every client that the connection lives, and end the streams that are old."""
        self._beating = self._reactor.callLater(HEARTBEAT, self._beat)
        oldest = self._reactor.seconds() - LIFETIME
        for stream, (_, began) in tuple(self._streams.items()):
            if began <= oldest:
                stream.finish()
            else:
                stream.write(sse.HEARTBEAT)

    def stop(self) -> None:
        """End every stream, and let none begin: stackit stops."""
        self.stopping = True
        for stream in tuple(self._streams):
            stream.finish()
