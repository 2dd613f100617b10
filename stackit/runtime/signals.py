"""SIGTERM and SIGINT end stackit in order, with exit status 0."""

from __future__ import annotations

import signal
from types import FrameType

from stackit.api.reactor import Reactor


def stop_on_signals(reactor: Reactor) -> None:
    """Stop the reactor on both signals, instead of twistd, which ends the process by the signal itself at last."""

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
