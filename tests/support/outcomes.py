"""What comes of an operation that calls back, for a test that awaits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred


async def outcome(ask: Callable[..., None], *values: Any, **named: Any) -> Any:
    """What ``ask(*values, done, **named)`` calls ``done`` with; a Failure is raised."""
    come: Deferred[Any] = Deferred()
    ask(*values, come.callback, **named)
    return await come
