"""Clocks in the place of a reactor."""

from __future__ import annotations

from typing import cast

from twisted.internet.task import Clock

from stackit import Reactor


def as_reactor(clock: Clock) -> Reactor:
    """The clock, for code that takes a reactor and uses only its timers there."""
    return cast("Reactor", clock)
