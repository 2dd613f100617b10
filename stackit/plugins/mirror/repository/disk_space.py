"""The room on the disk of the mirrors: looked at before something grows there, and while it does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from stackit import Reactor, StackitError
from stackit.plugins.mirror.git.errors import GitError

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

EVERY = 0.2
"""Seconds between two looks while something grows: a fast disk takes 200 MB in that time."""

Result = TypeVar("Result")


class DiskReserve:
    """Keeps ``reserve`` bytes of the disk that ``directory`` is on free."""

    def __init__(self, reactor: Reactor, directory: Path, reserve: int) -> None:
        self._reactor = reactor
        self._directory = directory
        self._reserve = reserve
        self._growing: list[_Growing] = []
        self._look: DelayedCall | None = None

    @property
    def is_short(self) -> bool:
        """Whether less than the reserve is free."""
        return self._free < self._reserve

    @property
    def _free(self) -> int:
        return shutil.disk_usage(self._directory).free

    def check(self) -> None:
        """Raises StackitError where less than the reserve is free."""
        free = self._free
        if free < self._reserve:
            raise StackitError(
                f"only {free >> 20} MiB are free on the disk of the mirrors, less than plugins.mirror.reserve: "
                "nothing is fetched until there is room"
            )

    async def supervise(self, work: Coroutine[Any, Any, Result], size: Callable[[], int]) -> Result:
        """The result of ``work``, which is ended when the reserve would be passed; of several, the one that takes most.

        ``size`` is how many bytes it has written so far. Raises GitError when it was ended for want of room.
        """
        running = Deferred.fromCoroutine(work)
        growing = _Growing(running, size)
        self._growing.append(growing)
        if self._look is None:
            self._look = self._reactor.callLater(EVERY, self._looked)
        try:
            return await running
        except CancelledError:
            if growing.ended is None:
                raise
            raise GitError(growing.ended, kind="disk", killed=True) from None
        finally:
            self._growing.remove(growing)
            if self._look is not None and not self._growing:
                self._look.cancel()
                self._look = None

    def _looked(self) -> None:
        self._look = self._reactor.callLater(EVERY, self._looked)
        free = self._free
        # One after the other: what the first gives back may be enough for all others.
        if free >= self._reserve or any(each.ended is not None for each in self._growing):
            return
        largest = self._growing[0] if len(self._growing) == 1 else max(self._growing, key=lambda each: each.size())
        largest.ended = (
            f"git was ended before the disk of the mirrors was full: only {free >> 20} MiB are free, "
            "less than plugins.mirror.reserve; make room, or lower it"
        )
        largest.work.cancel()


class _Growing:
    """Something that takes room; ``ended`` is why it was ended, where it was."""

    def __init__(self, work: Deferred[Any], size: Callable[[], int]) -> None:
        self.work = work
        self.size = size
        self.ended: str | None = None
