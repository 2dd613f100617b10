"""Waiting in the reactor for what comes from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stackit.api.reactor import sleep

PATIENCE = 60.0
"""Seconds after which a test gives up: many more than it takes on a busy machine."""


async def until(ready: Callable[[], object], what: str = "it") -> None:
    """Return as soon as something is so. Raises AssertionError where it does not become so."""
    from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

    clock: Any = reactor
    end = clock.seconds() + PATIENCE
    while not ready():
        assert clock.seconds() < end, f"waited in vain for {what}"
        await sleep(clock, 0.005)
