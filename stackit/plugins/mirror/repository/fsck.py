"""Verify all objects of mirrors. That takes minutes and a whole core: few mirrors at once, and each rarely."""

from __future__ import annotations

from stackit import Timers
from stackit.plugins.mirror.repository.repository import Repository


class FsckSlots:
    """Slots for verifications, shared by all mirrors.

    ``at_once``: mirrors that may be verified at the same time. ``interval``: seconds between two verifications of a
    mirror that was found sound.
    """

    def __init__(self, reactor: Timers, at_once: int = 2, interval: float = 3600.0) -> None:
        self.reactor = reactor
        self.at_once = at_once
        self.interval = interval
        self.running = 0


class Fsck:
    """Verifies one mirror, and remembers the result."""

    def __init__(self, slots: FsckSlots, repository: Repository) -> None:
        self._slots = slots
        self._repository = repository
        self._sound_at: float | None = None
        self._broken = False

    async def is_sound(self) -> bool | None:
        """Verify the mirror. Return None, without waiting, if it was verified recently or no slot is free.

        A mirror that was found broken stays so until it is replaced (``mark_replaced``). Raises GitError if git was
        killed.
        """
        if self._broken:
            return False
        now = self._slots.reactor.seconds()
        recently = self._sound_at is not None and now - self._sound_at < self._slots.interval
        if recently or self._slots.running >= self._slots.at_once:
            return None
        self._slots.running += 1
        try:
            sound = await self._repository.is_sound()
        finally:
            self._slots.running -= 1
        self._broken = not sound
        self._sound_at = now if sound else None
        return sound

    def mark_replaced(self) -> None:
        """Forget that the mirror was broken: a new clone is in its place."""
        self._broken = False
