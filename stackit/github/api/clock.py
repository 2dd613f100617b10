"""The clock of one GitHub, as the ``Date`` of its answers tells it."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime

NOTICE = 30.0
"""Seconds of difference that an operator is told of."""
_EXACT = 2.0
"""Seconds of difference that count for none: ``Date`` has whole seconds, and an answer takes its time."""
_EARLIEST = 1_700_000_000.0
"""A time that is past: who is asked at an earlier one has no clock."""
_SLOWEST = 60.0
"""Seconds that an exchange may have taken for its ``Date`` to count."""


class GitHubClock:
    """The wall clock of this machine, corrected by the ``Date`` of GitHub's answers.

    ``offset`` is how many seconds GitHub's clock is ahead of this machine's; 0 until an answer came.
    """

    def __init__(
        self, name: str, now: Callable[[], float], notice: Callable[[str], None], clock_of: str = "this machine"
    ) -> None:
        """``name`` is GitHub's host in notices, ``now`` the wall clock, and ``clock_of`` whose that is.

        ``notice`` is told once of a wrong clock.
        """
        self.offset = 0.0
        self._name = name
        self._now = now
        self._notice = notice
        self._clock_of = clock_of
        self._is_wrong = False

    def now(self) -> float:
        """Return the time by GitHub's clock, in seconds since the epoch."""
        return self._now() + self.offset

    def observe(self, date: str | None, seconds: float) -> None:
        """Correct the clock by the ``Date`` of an answer that just came, ``seconds`` after its request was sent."""
        if date is None or seconds > _SLOWEST:
            return
        try:
            sent = parsedate_to_datetime(date).timestamp()
        except (ValueError, OverflowError):
            return
        if sent < _EARLIEST:
            return
        # The answer was sent at some moment of the exchange, within the second that its date names.
        offset = sent + 0.5 - (self._now() - seconds / 2)
        self.offset = 0.0 if abs(offset) <= _EXACT + seconds / 2 else offset
        if abs(self.offset) < NOTICE / 2:
            self._is_wrong = False
        elif abs(self.offset) >= NOTICE and not self._is_wrong:
            self._is_wrong = True
            self._notice(self._wrong())

    def _wrong(self) -> str:
        side = "behind" if self.offset > 0 else "ahead of"
        return (
            f"the clock of {self._clock_of} is {round(abs(self.offset))} seconds {side} that of {self._name}; "
            "requests are dated by the latter; set the clock (is NTP running?)"
        )
