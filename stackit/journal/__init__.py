"""The durable record: deliveries, ref changes, and the outcome of each handling.

``protocol`` says what a journal promises; the rest of stackit depends on that and on the values of ``records`` alone.
``sqlite`` is the journal that ships. ``pruner`` keeps any journal small, ``directory`` holds the state directory.
"""

from stackit.journal.protocol import JournalProtocol, SoleOwner, WorkListener
from stackit.journal.records import (
    AppendResult,
    DueHandling,
    EventId,
    HandlingId,
    HandlingRow,
    NewDelivery,
    Page,
    Receipt,
    Shard,
    Space,
    State,
    StoredEvent,
    decode_changes,
)

__all__ = [
    "AppendResult",
    "DueHandling",
    "EventId",
    "HandlingId",
    "HandlingRow",
    "JournalProtocol",
    "NewDelivery",
    "Page",
    "Receipt",
    "Shard",
    "SoleOwner",
    "Space",
    "State",
    "StoredEvent",
    "WorkListener",
    "decode_changes",
]
