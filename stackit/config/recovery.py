"""The table ``[recovery]``: deliveries that were missed, taken from GitHub's own list."""

from __future__ import annotations

from typing import Annotated

import msgspec

from stackit.config import checks
from stackit.config.setting import Setting
from stackit.text.units import Duration


class RecoveryConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[recovery]``: deliveries that were missed, taken from GitHub's own list."""

    enabled: Annotated[bool, Setting("whether missed deliveries are taken from GitHub's list of deliveries")] = True
    interval: Annotated[
        Duration,
        Setting("how often each list is read; `0`: when somebody asks only (`stackit recover`)", checks.interval),
    ] = Duration(300)
    pause: Annotated[
        Duration, Setting("the time between two payloads that are taken from one list", checks.not_negative)
    ] = Duration(1)
    retention: Annotated[
        Duration | None, Setting("for how long GitHub lists a delivery, if not as documented", checks.positive)
    ] = None
