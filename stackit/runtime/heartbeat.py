"""The heartbeat: checks that the threads live and move, the reactor's and those of the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from stackit.api.periodic import Periodic
from stackit.api.reactor import Timers
from stackit.api.threads import MonitoredThread

INTERVAL = 10.0
"""Seconds between two beats."""
BOUND = 30.0
"""Seconds without any movement after which a thread counts as stuck. A disk may take its time."""


class Heartbeat(Periodic):
    """Sends a beat through every thread, by the reactor's timers.

    A thread that is busy but moves is not stuck, however long the beat waits behind its work. ``clock`` returns
    monotonic seconds. It is not the reactor's clock, since it shows that the reactor's timers fire.
    """

    def __init__(
        self, *, reactor: Timers, threads: Mapping[str, MonitoredThread], clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(reactor, INTERVAL, self._beat)
        self._clock = clock
        self._ticked_at = clock()
        self._pulses = [_Pulse(name, thread) for name, thread in threads.items()]

    def stuck(self) -> list[str]:
        """Return a line for each thread that does not live or move; none before the start and during the stop."""
        if not self.running:
            return []
        now = self._clock()
        late = now - self._ticked_at - INTERVAL
        problems = [pulse.problem(now) for pulse in self._pulses]
        timers = f"the reactor's timers have not moved for {late:.0f} seconds" if late > BOUND else None
        return [problem for problem in (timers, *problems) if problem is not None]

    def _beat(self) -> None:
        now = self._ticked_at = self._clock()
        for pulse in self._pulses:
            pulse.ask(now)


class _Pulse:
    """The last beat of one thread."""

    def __init__(self, name: str, thread: MonitoredThread) -> None:
        self._name = name
        self._thread = thread
        self._asked = False
        self._moved_at = 0.0
        self._steps = 0

    def ask(self, now: float) -> None:
        """Send the next beat, unless one is under way."""
        self._look(now)
        if not self._asked:
            self._asked = True
            self._moved_at = now
            self._thread.beat(self._answered)

    def problem(self, now: float) -> str | None:
        """Return a line where the thread has ended or does not move, else None."""
        if not self._thread.lives:
            return f"{self._name} has ended: restart stackit"
        self._look(now)
        still = now - self._moved_at
        if self._asked and still > BOUND:
            return f"{self._name} has not moved for {still:.0f} seconds: a disk that hangs, or else restart stackit"
        return None

    def _look(self, now: float) -> None:
        if self._thread.steps != self._steps:
            self._steps = self._thread.steps
            self._moved_at = now

    def _answered(self, _: object) -> None:
        self._asked = False
