"""The time of a fleet: the database's, as this node measures it, and by how much this node's own clock is wrong."""

from __future__ import annotations

from collections.abc import Callable

from stackit.journal.postgres.clock import Reading
from stackit.text.units import counted

WRONG = 5.0
"""Seconds of difference that an operator is told of."""
_RIGHT = WRONG / 2
"""Seconds of difference at which that is over."""


class FleetClock:
    """The database's clock, which goes on while the database is away.

    It is a clock that nobody sets (``seconds``, which goes on while the machine is suspended), and by how much the
    database's is ahead of that. Each reading says between which bounds that is, so it changes only where it is beyond
    them: not with how long an answer takes.
    ``wall_clock`` is that of this machine. ``notice`` is told when it is wrong, and when it is right again.
    """

    def __init__(
        self,
        reading: Reading,
        *,
        seconds: Callable[[], float],
        wall_clock: Callable[[], float],
        notice: Callable[[str], object],
    ) -> None:
        self.seconds = seconds
        self._wall_clock = wall_clock
        self._notice = notice
        self._offset = reading.shown - (reading.before + reading.after) / 2
        self._is_wrong = False
        self._judge()

    def now(self) -> float:
        """Return the time of the fleet, in seconds since the epoch."""
        return self.seconds() + self._offset

    def ahead(self) -> float:
        """Return by how many seconds the wall clock of this machine is ahead; less than 0 where it is behind."""
        return self._wall_clock() - self.now()

    def observe(self, reading: Reading) -> None:
        """Take what the database's clock showed."""
        lowest, highest = reading.shown - reading.after, reading.shown - reading.before
        self._offset = min(max(self._offset, lowest), highest)
        self._judge()

    def problems(self) -> list[str]:
        """Return what is wrong with the clock of this machine, if anything is."""
        self._judge()
        return [self._difference()] if self._is_wrong else []

    def _judge(self) -> None:
        difference = abs(self.ahead())
        if not self._is_wrong and difference >= WRONG:
            self._is_wrong = True
            self._notice(self._difference())
        elif self._is_wrong and difference < _RIGHT:
            self._is_wrong = False
            self._notice("the clock of this machine agrees with that of the fleet's database again")

    def _difference(self) -> str:
        ahead = self.ahead()
        side = "ahead of" if ahead > 0 else "behind"
        return (
            f"the clock of this machine is {counted(round(abs(ahead)), 'second')} {side} that of the fleet's database: "
            "let NTP set it (or the database's, where every node says so)"
        )
