"""stackit as it is, but with a journal that keeps nothing: what durability costs is the difference.

Run like ``twistd``, with its arguments.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

from twisted.scripts.twistd import run

from stackit import service
from stackit.journal import AppendResult, DueHandling, EventId, HandlingId, NewDelivery


class NoJournal:
    """Answers as a journal does, at once."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    @classmethod
    def open(cls, *_: Any, **__: Any) -> NoJournal:
        return cls()

    def append(self, record: NewDelivery, done: Callable[[AppendResult], object]) -> None:
        number = next(self._ids)
        event_id = EventId(str(number))
        key = (record.repo or "").lower()
        due = [DueHandling(HandlingId(number), event_id, each, key, 0, len(record.body)) for each in record.subscribers]
        done(AppendResult(event_id, "new", tuple(due)))

    def finish(self, _handling: int, done: Callable[[None], object], **_: float) -> None:
        done(None)

    async def due(self, *_: Any, **__: Any) -> list[DueHandling]:
        return []

    async def due_groups(self, *_: Any, **__: Any) -> list[str]:
        return []

    async def next_due(self, *_: Any, **__: Any) -> None: ...

    async def pending(self) -> dict[str, int]:
        return {}

    async def prune(self, _now: float) -> int:
        return 0

    async def close(self) -> None: ...

    async def move_retries(self, _step: float, **_: float) -> None: ...

    def problems(self) -> list[str]:
        return []

    def threads(self) -> dict[str, Any]:
        return {}

    def files(self) -> tuple[()]:
        return ()


the_service: Any = service
the_service.SQLiteJournal = NoJournal
sys.exit(run())
