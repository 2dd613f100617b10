"""Keep a reserve of the mirrors' disk free: check it before a fetch, and while one writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred

from stackit import StackitError, Timers
from stackit.plugins.mirror.git.errors import GitError

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

Result = TypeVar("Result")


def free_bytes(directory: Path) -> int:
    """Return the bytes that are free on the disk of a directory."""
    return shutil.disk_usage(directory).free


class DiskReserve:
    """Keeps ``reserve`` bytes free on the disk of ``directory``.

    ``interval``: seconds between two checks while something is written. A fast disk takes 200 MB in the default.
    ``free(directory)`` returns the bytes that are free.
    """

    def __init__(
        self,
        reactor: Timers,
        directory: Path,
        reserve: int,
        interval: float = 0.2,
        *,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._reactor = reactor
        self._directory = directory
        self.reserve = reserve
        self.interval = interval
        self._free_bytes = free
        self._writers: list[_Writer] = []
        self._timer: DelayedCall | None = None

    @property
    def is_short(self) -> bool:
        """True if less than the reserve is free."""
        return self._free < self.reserve

    @property
    def _free(self) -> int:
        return self._free_bytes(self._directory)

    def check(self) -> None:
        """Raise StackitError if less than the reserve is free."""
        free = self._free
        if free < self.reserve:
            raise StackitError(
                f"only {free >> 20} MiB are free on the disk of the mirrors, less than plugins.mirror.reserve: "
                "nothing is fetched until there is room"
            )

    async def supervise(self, work: Coroutine[Any, Any, Result], size: Callable[[], int]) -> Result:
        """Run ``work``, which writes to the disk, and return its result. ``size`` returns its bytes written so far.

        When the reserve is touched, the largest work under supervision is cancelled. Raises GitError for that one.
        """
        running = Deferred.fromCoroutine(work)
        writer = _Writer(running, size)
        self._writers.append(writer)
        if self._timer is None:
            self._timer = self._reactor.callLater(self.interval, self._check_writers)
        try:
            return await running
        except CancelledError:
            if writer.ended is None:
                raise
            raise GitError(writer.ended, kind="disk", killed=True) from None
        finally:
            self._writers.remove(writer)
            if self._timer is not None and not self._writers:
                self._timer.cancel()
                self._timer = None

    def _check_writers(self) -> None:
        self._timer = self._reactor.callLater(self.interval, self._check_writers)
        free = self._free
        # One at a time: the space that it gives back may be enough for all others.
        if free >= self.reserve or any(each.ended is not None for each in self._writers):
            return
        largest = self._writers[0] if len(self._writers) == 1 else max(self._writers, key=lambda each: each.size())
        largest.ended = (
            f"git was ended before the disk of the mirrors was full: only {free >> 20} MiB are free, "
            "less than plugins.mirror.reserve; make room, or lower it"
        )
        largest.work.cancel()


class _Writer:
    """Work under supervision; ``ended`` is the reason why it was cancelled, if it was."""

    def __init__(self, work: Deferred[Any], size: Callable[[], int]) -> None:
        self.work = work
        self.size = size
        self.ended: str | None = None
