"""SIGTERM and SIGINT end stackit in order, with exit status 0."""

from __future__ import annotations

import signal
from types import FrameType

from stackit.api.reactor import Reactor


def stop_on_signals(reactor: Reactor) -> None:
    """Take both signals over from twistd, which would end the process by the signal itself at the last."""

    asked = False

    def stop_once() -> None:
        nonlocal asked
        if not asked:
            asked = True
            reactor.stop()

    def stop(_number: int, _frame: FrameType | None) -> None:
        reactor.callFromThread(stop_once)

    def take_over() -> None:
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)

    # The reactor installs its own handlers as it starts to run.
    reactor.callWhenRunning(take_over)
