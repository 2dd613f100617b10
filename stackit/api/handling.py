"""The handling that runs now, for the log: a context variable that dispatch sets around each call of a handler.

It is there in the handler itself, behind each ``await``, in the thread of a handler with ``thread=True``, and in what
copies the context (``Deferred.fromCoroutine``, ``contextvars.copy_context``). A callback of a Deferred runs in the
context of the one who fires it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

CURRENT: ContextVar[tuple[str, Any] | None] = ContextVar("stackit_handling", default=None)
"""The subscriber's name for people, and its event; None outside of handlers."""


def current_fields() -> dict[str, Any] | None:
    """Return ``delivery``, ``id`` and ``subscriber`` of the handling that runs now; None outside of handlers."""
    current = CURRENT.get()
    if current is None:
        return None
    subscriber, event = current
    fields = {"delivery": event.delivery, "id": event.id, "subscriber": subscriber}
    return {name: value for name, value in fields.items() if value is not None}
