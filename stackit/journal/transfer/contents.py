"""What both ways of a transfer share."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

Progress = Callable[[int, int], None]
"""Called with how many rows are copied, and of how many; what it raises ends the transfer."""

AT_ONCE = 500
"""Events that are read, and written, together."""


class Contents(msgspec.Struct, frozen=True):
    """What was copied: events, those that are announcements included; pending and dead handlings; refs; documents.

    ``damaged`` are events whose body could not be read, and was left out.
    """

    events: int
    pending: int
    dead: int
    refs: int
    documents: int
    damaged: int = 0
