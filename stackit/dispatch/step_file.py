"""The steps of handlings that this process is in, in a file that outlasts it: which handler ended the process.

The file is mapped into memory and never synced: the kernel keeps its pages however a process ends, and what a power cut
takes with it was no handler's fault. So a mark costs no system call.
"""

from __future__ import annotations

import mmap
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import msgspec

from stackit.journal import EventId

NAME = "steps"
"""The name of the file in the state directory."""
REACTOR = 0
"""The place of the reactor's thread."""

_SLOT = 256
_SLOTS = 255
"""Places, each for one thread: the reactor's, and those of handlers. More threads than that have none."""
_HEADER = re.compile(rb"stackit steps 1 ([0-9a-f]{32})\n\0*")
_SIZE = _SLOT * (_SLOTS + 1)


class Step(msgspec.Struct, frozen=True):
    """A handling that a thread was in: the id of the event, and the subscriber's key."""

    event: EventId
    subscriber: str


class LastRun(msgspec.Struct, frozen=True):
    """The process before this one, which did not stop: its id, and the steps it was in, the reactor's first."""

    id: str
    steps: tuple[Step, ...]


class StepFile:
    """The steps that the threads of this process are in, each in a place of its own.

    ``last`` is what the process before this one left. If it was in a step, that stays where it is until ``begin``, and
    marks are kept in memory alone; so they are without a ``path``, and where the file cannot be written.
    """

    def __init__(self, path: Path | None, notice: Callable[[str], object]) -> None:
        """Read what is there; a file that no stackit wrote is ignored. ``notice`` is called with a line for people."""
        self.last: LastRun | None = None
        self._path = path
        self._notice = notice
        self._has_begun = False
        self._places: bytearray | mmap.mmap = bytearray(_SIZE)
        self._free = list(range(REACTOR + 1, _SLOTS))
        if path is not None:
            try:
                self.last = _read(path)
            except (OSError, ValueError) as problem:
                notice(f"{path} is ignored, so it is not known in which handler the last process ended: {problem}")
        if self.last is None or not self.last.steps:
            self.begin()

    def begin(self) -> None:
        """Keep the steps in the file from now on; what the last process left in it is gone."""
        if self._path is None or self._has_begun:
            return
        try:
            self._places = _make(self._path)
            self._has_begun = True
        except OSError as problem:
            self._notice(
                f"{self._path} cannot be written: {problem.strerror}; an event whose handler ends the process is begun "
                "again after each restart"
            )

    def end(self) -> None:
        """Remove the file: this process stops, and no handler ended it."""
        if self._path is not None and self._has_begun:
            with suppress(OSError):  # if it stays, what is still in it counts once
                self._path.unlink()

    def enter(self, place: int, event: str, subscriber: str) -> None:
        """Mark that a thread is in a step."""
        text = f"{event} {subscriber}".encode("utf-8", "replace")
        size = len(text)
        places, at = self._places, (place + 1) * _SLOT
        places[at] = 0
        if size < _SLOT:
            places[at + 1 : at + 1 + size] = text
            places[at] = size  # at last: what is half written has no size

    def leave(self, place: int) -> None:
        """Mark that a thread is in no step."""
        self._places[(place + 1) * _SLOT] = 0

    @contextmanager
    def in_thread(self, event: str, subscriber: str) -> Iterator[None]:
        """Mark that the calling thread, which is not the reactor's, is in a step."""
        place: int | None = None
        with suppress(IndexError):
            place = self._free.pop()
            self.enter(place, event, subscriber)
        try:
            yield
        finally:
            if place is not None:
                self.leave(place)
                self._free.append(place)


def _read(path: Path) -> LastRun | None:
    """Return what a process left. Raises ValueError for a file of another kind, and OSError."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_size != _SIZE:
        raise ValueError("it is no file of this version of stackit")
    content = path.read_bytes()
    header = _HEADER.fullmatch(content[:_SLOT])
    if header is None:
        raise ValueError("it is no file of this version of stackit")
    places = [content[at : at + _SLOT] for at in range(_SLOT, _SIZE, _SLOT)]
    steps = [_step(place[1 : 1 + place[0]]) for place in places]
    return LastRun(header[1].decode(), tuple(dict.fromkeys(step for step in steps if step is not None)))


def _step(text: bytes) -> Step | None:
    event, _, subscriber = text.decode("utf-8", "replace").partition(" ")
    return Step(EventId(event), subscriber) if event and subscriber else None


def _make(path: Path) -> mmap.mmap:
    """Put an empty file in place of what is there. Raises OSError."""
    new = path.with_name(f"{path.name}.new")
    handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "r+b") as file:
            # Written, and not only made as long: a page without room on the disk would end the process when it is used.
            file.write(f"stackit steps 1 {uuid4().hex}\n".encode().ljust(_SIZE, b"\0"))
            file.flush()
            places = mmap.mmap(file.fileno(), _SIZE)
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    return places
