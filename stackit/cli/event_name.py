"""The name of a delivery's event, as people write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def event_name(delivery: Mapping[str, Any]) -> str:
    """Return ``issues.opened`` for a delivery with an action, else ``push``."""
    return f"{delivery['event']}.{delivery['action']}" if delivery["action"] else str(delivery["event"])
