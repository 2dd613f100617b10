"""A thread that waits for the database is not stuck; one that does not move beside a database that answers is."""

from __future__ import annotations

from collections.abc import Callable

from clocks import as_reactor
from twisted.internet.task import Clock

from stackit.runtime.heartbeat import BOUND, INTERVAL, Heartbeat
from stackit.service.database_threads import database_threads


class Standing:
    """A thread that does not move."""

    steps = 7
    lives = True

    def beat(self, done: Callable[[object], object]) -> None:
        """Never get to it."""


def test_a_thread_that_waits_for_the_database_is_not_stuck_and_one_that_stands_still_is() -> None:
    clock, thread, away = Clock(), Standing(), [True]
    threads = database_threads({"the journal's writer": thread}, lambda: away[0])
    heartbeat = Heartbeat(reactor=as_reactor(clock), threads=threads, clock=clock.seconds)
    heartbeat.startService()
    clock.pump([INTERVAL] * int(3 * BOUND / INTERVAL))
    assert heartbeat.stuck() == []
    away[0] = False
    clock.pump([INTERVAL] * int(2 * BOUND / INTERVAL))
    assert [each.partition(" for ")[0] for each in heartbeat.stuck()] == ["the journal's writer has not moved"]
    away[0], thread.lives = True, False
    assert heartbeat.stuck() == ["the journal's writer has ended: restart stackit"]
    heartbeat.stopService()
