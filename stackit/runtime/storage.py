"""The sizes of files and of the disk that they are on, looked up beside the reactor."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from types import MappingProxyType

import msgspec
from twisted.application.service import Service

from stackit.api.reactor import Timers, looping_call

INTERVAL = 10.0
"""Seconds between two looks."""


class Sizes(msgspec.Struct, frozen=True):
    """Sizes in bytes. ``disk_free`` is the room that this user has; ``files`` are those that are there, by name."""

    disk_free: int | None = None
    disk_size: int | None = None
    files: Mapping[str, int] = MappingProxyType({})


def measure(directory: Path, files: Sequence[Path]) -> Sizes:
    """Look at ``files`` and at the disk of ``directory``. Waits for the disk. Never raises for what is not there."""
    found = {}
    for path in files:
        try:
            found[path.name] = path.stat().st_size
        except OSError:
            continue
    try:
        usage = shutil.disk_usage(directory)
    except OSError:
        return Sizes(files=found)
    return Sizes(usage.free, usage.total, found)


class Storage(Service):
    """Measures at the start, and then every ten seconds in a thread of its own.

    ``sizes`` are the last that were found. A disk that hangs keeps the thread, and nothing else: ``sizes`` stay as they
    are, and no other thread begins meanwhile.
    """

    def __init__(self, *, reactor: Timers, look: Callable[[], Sizes]) -> None:
        """``look`` returns the sizes now; it may wait for the disk."""
        self.sizes = Sizes()
        self._look = look
        self._thread: Thread | None = None
        self._loop = looping_call(reactor, self._begin)

    def startService(self) -> None:
        """Look once, as the start waits for the same disk in any case, and begin to look again and again."""
        Service.startService(self)
        self.sizes = self._look()
        self._loop.start(INTERVAL, now=False)

    def stopService(self) -> None:
        Service.stopService(self)
        if self._loop.running:
            self._loop.stop()

    def _begin(self) -> None:
        if self._thread is not None and self._thread.is_alive():
            return
        thread = Thread(target=self._run, name="stackit storage", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no thread left: the next look may find one
            return
        self._thread = thread

    def _run(self) -> None:
        self.sizes = self._look()
