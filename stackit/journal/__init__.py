"""The durable record: deliveries, ref changes, and the outcome of each handling.

SQLite in the state directory. ``journal`` is the face of it; ``writer`` (one thread, group
commit) runs what ``recording`` has, ``reader`` (another thread) what ``queries`` and
``retention`` have; ``schema`` and ``directory`` are for the start.
"""

from stackit.journal.journal import Journal
from stackit.journal.records import (
    AppendResult,
    DueHandling,
    HandlingRow,
    NewDelivery,
    Page,
    Receipt,
    State,
    StoredEvent,
    decode_changes,
)

__all__ = [
    "AppendResult",
    "DueHandling",
    "HandlingRow",
    "Journal",
    "NewDelivery",
    "Page",
    "Receipt",
    "State",
    "StoredEvent",
    "decode_changes",
]
