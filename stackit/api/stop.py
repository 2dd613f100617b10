"""The stop of stackit, for what only waits: it ends as the stop begins, so that nothing is waited for in vain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stackit.api.errors import describe
from stackit.api.reactor import Timers, sleep

_log = Logger(namespace="stackit")


class Stop:
    """The stop of one stackit. ``has_begun`` is true from the signal on."""

    def __init__(self) -> None:
        self.has_begun = False
        self._functions: list[Callable[[], object]] = []
        self._sleeping: set[Deferred[None]] = set()

    def when_begun(self, function: Callable[[], object]) -> None:
        """Have a function called when the stop begins; at once, if it has begun."""
        if self.has_begun:
            _call(function)
        else:
            self._functions.append(function)

    def sleep(self, reactor: Timers, seconds: float | str) -> Deferred[None]:
        """Return the Deferred of ``sleep``, which fails with CancelledError once the stop begins."""
        sleeping = sleep(reactor, seconds)
        self._sleeping.add(sleeping)

        def ended(result: Any) -> Any:
            self._sleeping.discard(sleeping)
            return result

        sleeping.addBoth(ended)
        if self.has_begun:
            sleeping.cancel()
        return sleeping

    def begin(self) -> None:
        """End every sleep, and call the functions. Calls after the first do nothing."""
        self.has_begun = True
        functions, self._functions = self._functions, []
        for function in functions:
            _call(function)
        for sleeping in tuple(self._sleeping):
            sleeping.cancel()


def _call(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException as fault:  # noqa: BLE001 - foreign code, which must not hold up the stop
        _log.error("what a plugin does as the stop begins failed: {problem}", problem=describe(fault))
