"""Reading all objects of mirrors, which takes minutes and a whole core: few at once, and each mirror rarely."""

from __future__ import annotations

from stackit import Reactor
from stackit.plugins.mirror.repository.repository import Repository

AT_ONCE = 2
CHECK_EVERY = 3600.0
"""Seconds between two checks of a mirror that was found whole."""


class FsckSlots:
    """Permission for all mirrors together: at most ``AT_ONCE`` are read at any time."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.running = 0


class Fsck:
    """What is known of one mirror."""

    def __init__(self, checks: FsckSlots, repository: Repository) -> None:
        self._checks = checks
        self._repository = repository
        self._whole_at: float | None = None
        self._broken = False

    async def is_sound(self) -> bool | None:
        """Whether the mirror is whole; None where it was read lately, or others are, so that it has to wait.

        Nobody waits here: a look that comes later asks again. A mirror that was found broken is so until
        it is ``replaced``. Raises GitError where git was ended.
        """
        if self._broken:
            return False
        now = self._checks.reactor.seconds()
        lately = self._whole_at is not None and now - self._whole_at < CHECK_EVERY
        if lately or self._checks.running >= AT_ONCE:
            return None
        self._checks.running += 1
        try:
            sound = await self._repository.is_sound()
        finally:
            self._checks.running -= 1
        self._broken = not sound
        self._whole_at = now if sound else None
        return sound

    def replaced(self) -> None:
        """A fresh mirror is in its place."""
        self._broken = False
