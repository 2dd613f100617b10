"""The sync status of a mirror: what is fetched, since when it fails, and when it is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Literal, get_args

from stackit import AccessProblem, Timers
from stackit.plugins.mirror.git.errors import GitErrorKind
from stackit.plugins.mirror.sync.missing_refs import MissingRefs

State = Literal["in_step", "behind", "cloning", "failing", "quarantined", "suspended", "no_access"]
STATES: tuple[State, ...] = get_args(State)

LONGEST_PAUSE = 3600.0
REFUSALS = 3
"""Answers of "gone" or "forbidden" in a row after which a remote is in quarantine, and asked rarely."""
FIRST_QUARANTINE = 3600.0
LONGEST_QUARANTINE = 86400.0
COVERED = 1000
"""Single refs whose rounds are remembered; for others, the remote is asked once more."""


class SyncStatus:
    """The results of the rounds of one repository.

    Times are compared by the reactor's clock, which cannot be set. Only ``verified_at``, ``since`` and ``next_at`` are
    of the wall clock, in seconds since the epoch: they are for people.
    """

    def __init__(self, clock: Timers, now: Callable[[], float], *, first_pause: float) -> None:
        """``clock`` is the reactor, ``now`` the wall clock. ``first_pause`` is in seconds."""
        self._first_pause = first_pause
        self._clock = clock
        self._now = now
        self.started_at = 0.0
        """The start of the latest round that asked the remote."""
        self.covered_at: float | None = None
        """The start of the latest round that succeeded: every push before it has been fetched."""
        self.covered_refs: dict[str, float] = {}
        """The same by ref, for later rounds that asked for single refs."""
        self.full_at: float | None = None
        """The start of the latest round that compared all refs."""
        self.verified_at: float | None = None
        """The time when the mirror was last equal to its remote, in epoch seconds."""
        self.error: str | None = None
        self.since: float | None = None
        """The time of the first failure in a row, in epoch seconds."""
        self.held: str | None = None
        """The reason why the mirror keeps refs that the remote deleted, None if it keeps none."""
        self.missing: MissingRefs | None = None
        """The refs of the remote that the mirror cannot hold, None if there are none."""
        self.next_at: float | None = None
        """The time of the next attempt, in epoch seconds; a push or a person may come before."""
        self.timeouts = 0
        self.quarantined = False
        self._paused_until: float | None = None
        self._quiet_until = 0.0
        self._failures = 0
        self._refusals = 0

    def follow(self, earlier: SyncStatus) -> None:
        """Go on from the status of a worker that had the mirror before, as far as it tells of the mirror itself."""
        self.verified_at = earlier.verified_at
        self.held, self.missing = earlier.held, earlier.missing

    def state(self, *, exists: bool, pending: int, access: AccessProblem | None = None) -> State:
        """Return the state of the mirror: ``exists`` if it does, ``pending`` pushes may not be in it yet.

        ``access`` is the problem of those who would give it a token, None for none.
        """
        if access is not None:
            return access
        if self.quarantined:
            return "quarantined"
        if self.error is not None:
            return "failing"
        if not exists:
            return "cloning"
        return "behind" if pending or self.unequal or self.verified_at is None else "in_step"

    def started(self, at: float) -> None:
        """Note the start of a round that asks the remote, by the reactor's clock."""
        self.started_at = at

    @property
    def unequal(self) -> str | None:
        """The reason why the mirror differs from its remote though nothing failed; None if no difference is known."""
        reasons = [str(each) for each in (self.held, self.missing) if each is not None]
        return "; ".join(reasons) or None

    def succeeded(
        self, *, full: bool, held: str | None = None, missing: MissingRefs | None = None, refs: Iterable[str] = ()
    ) -> None:
        """Note a success. ``full``: all refs were compared, and are equal but for ``held`` and ``missing``.

        ``refs``: only these were asked for (none: everything was).
        """
        asked = dict.fromkeys(refs, self.started_at)
        self.covered_refs |= asked
        while len(self.covered_refs) > COVERED:
            del self.covered_refs[next(iter(self.covered_refs))]
        if not asked:
            self.covered_at = self.started_at
            self.covered_refs.clear()
        elif self.missing is not None:
            self.missing = self.missing.without(asked)
        if full:
            self.full_at = self.started_at
            self.held = held
            self.missing = missing
            if self.unequal is None:
                self.verified_at = self._now() - (self._clock.seconds() - self.started_at)
        self.error = self.since = self.next_at = self._paused_until = None
        self.timeouts = self._failures = self._refusals = 0
        self.quarantined = False

    def failed(self, error: str, kind: GitErrorKind | None = None, retry_after: float | None = None) -> float:
        """Note a failure. ``kind``: of the trouble, None if unknown. ``retry_after``: the seconds of silence asked for.

        Returns in how many seconds it is to be tried again.
        """
        self.error = error
        self.since = self._now() if self.since is None else self.since
        self.timeouts += kind == "stalled"
        self._refusals = self._refusals + 1 if kind in ("gone", "forbidden") else 0
        self.quarantined = self._refusals >= REFUSALS
        if self.quarantined:
            pause = min(FIRST_QUARANTINE * 2.0 ** (self._refusals - REFUSALS), LONGEST_QUARANTINE)
        else:
            pause = min(self._first_pause * 2.0**self._failures, LONGEST_PAUSE)
        self._failures += pause < LONGEST_PAUSE
        # Spread, because the repositories of a host usually fail together.
        pause *= random.uniform(0.8, 1.2)  # noqa: S311 - nothing to guess
        if retry_after is not None:
            self._quiet_until = self._clock.seconds() + retry_after
            pause = max(pause, retry_after * random.uniform(1.0, 1.1))  # noqa: S311 - as above
        self._paused_until = self._clock.seconds() + pause
        self.next_at = self._now() + pause
        return pause

    def release(self) -> None:
        """Leave the quarantine: a push or a person says that the remote is there."""
        if self.quarantined:
            self.quarantined = False
            self._refusals = 0

    def access_returned(self) -> None:
        """Forget the failures: there are tokens again."""
        self.release()
        self._paused_until = None
        self._failures = 0

    def paused(self) -> bool:
        """Return True while it is too early to try again without a push or a person."""
        return self._paused_until is not None and self._clock.seconds() < self._paused_until

    def silenced(self) -> bool:
        """Return True while the silence that the remote asked for goes on."""
        return self._clock.seconds() < self._quiet_until and self.error is not None

    def covers(self, moment: float, *, full: bool = False, ref: str | None = None) -> bool:
        """Return True if a successful round began after ``moment``; with ``full``, one that compared all refs.

        Rounds that asked for ``ref`` alone count as well.
        """
        at = self.full_at if full else self.covered_at
        single = None if full or ref is None else self.covered_refs.get(ref)
        return any(each is not None and each >= moment for each in (at, single))

    def tried_since(self, moment: float) -> bool:
        """Return True if any round began after ``moment``, with success or not."""
        return self.started_at >= moment
