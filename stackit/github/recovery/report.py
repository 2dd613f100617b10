"""What a person is told who asks for a recovery."""

from __future__ import annotations

import msgspec

from stackit.api.schema import Timestamp
from stackit.github.recovery.hook import Found, HookRecovery
from stackit.github.recovery.records import Listed, ShownWindow, Window, shown_window
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

    def shown(self) -> ShownReport:
        """Return it as the admin side answers it."""
        return ShownReport(
            hook=self.hook,
            listed=self.listed,
            unwanted=self.unwanted,
            missed=self.missed,
            deliveries=[
                MissedDelivery(
                    delivery=each.guid,
                    event=each.event,
                    action=each.action,
                    delivered_at=rfc3339(each.at),
                    status_code=each.status_code,
                )
                for each in self.deliveries
            ],
            lost=None if self.lost is None else shown_window(self.lost),
            running=self.running,
            left=self.left,
            error=self.error,
        )


class MissedDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery in GitHub's list that never came."""

    delivery: str
    event: str
    action: str | None
    delivered_at: Timestamp
    status_code: int


class ShownReport(msgspec.Struct, frozen=True, kw_only=True):
    """A ``Report`` as the admin side answers it."""

    hook: str
    listed: int
    unwanted: int
    missed: int
    deliveries: list[MissedDelivery]
    lost: ShownWindow | None
    running: bool
    left: int
    error: str | None
