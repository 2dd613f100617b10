"""What a person is told who asks for a recovery."""

from __future__ import annotations

from typing import Any

import msgspec

from stackit.github.recovery.hook import Found, HookRecovery
from stackit.github.recovery.records import Listed, Window, shown_window
from stackit.text.times import rfc3339

MOST_SHOWN = 200


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in the list of a hook.

    ``listed`` entries were read; no handler wants ``unwanted`` events of them; ``missed`` are the others that never
    came. ``running``: deliveries are being taken, ``left`` of them. ``error`` is why the list could not be read.
    """

    hook: str
    listed: int = 0
    unwanted: int = 0
    missed: int = 0
    deliveries: tuple[Listed, ...] = ()
    lost: Window | None = None
    running: bool = False
    left: int = 0
    error: str | None = None

    @classmethod
    def of(cls, hook: HookRecovery, found: Found, *, running: bool) -> Report:
        """Return the report of a walk."""
        return cls(
            hook=hook.source.name,
            listed=found.walk.listed,
            unwanted=found.walk.unwanted,
            missed=len(found.missed),
            deliveries=tuple(found.missed[:MOST_SHOWN]),
            lost=found.lost,
            running=running and bool(found.missed),
            left=len(found.missed),
        )

    def shown(self) -> dict[str, Any]:
        """Return it as the admin side answers it."""
        return {
            "hook": self.hook,
            "listed": self.listed,
            "unwanted": self.unwanted,
            "missed": self.missed,
            "deliveries": [
                {
                    "delivery": each.guid,
                    "event": each.event,
                    "action": each.action,
                    "delivered_at": rfc3339(each.at),
                    "status_code": each.status_code,
                }
                for each in self.deliveries
            ],
            "lost": None if self.lost is None else shown_window(self.lost),
            "running": self.running,
            "left": self.left,
            "error": self.error,
        }
