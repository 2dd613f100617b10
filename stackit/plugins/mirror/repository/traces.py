"""What a change of a mirror's refs leaves a trace on, so that it is noticed whoever made it."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec

_FILES = ("HEAD", "packed-refs")
_ABSENT = (0, 0, 0)
_UNSIGNED = 2**64 - 1


class Traces(msgspec.Struct, frozen=True):
    """How HEAD, the packed refs and each folder of loose ones stood: 24 bytes for each of them.

    ``folders`` are named from the mirror on. ``marks`` are time, inode and size of the files, then of the folders.
    """

    folders: tuple[str, ...]
    marks: bytes

    @property
    def newest(self) -> float:
        """When something was touched last, in epoch seconds."""
        return max(array("Q", self.marks)[::3]) / 1e9

    def still(self, directory: Path) -> bool:
        """Whether they stand like that now.

        A folder that is new has touched the one that it is in, so only those that are known have to be looked at.
        """
        try:
            return _marks(os.fspath(directory), self.folders) == self.marks
        except FileNotFoundError:
            return False


def traces(directory: Path) -> Traces:
    """How everything stands now. Raises OSError where there are no refs."""
    root = os.fspath(directory)
    folders = tuple(_folders(root))
    return Traces(folders, _marks(root, folders))


def _folders(root: str) -> Iterator[str]:
    waiting = ["refs"]
    while waiting:
        folder = waiting.pop()
        yield folder
        with os.scandir(f"{root}/{folder}") as entries:
            waiting += sorted(f"{folder}/{each.name}" for each in entries if each.is_dir(follow_symlinks=False))


def _marks(root: str, folders: tuple[str, ...]) -> bytes:
    marks: list[int] = []
    for name in _FILES:
        try:
            status = os.stat(f"{root}/{name}")  # noqa: PTH116 - a look is a few of these, and little else
        except FileNotFoundError:
            marks += _ABSENT
        else:
            marks += (status.st_mtime_ns & _UNSIGNED, status.st_ino, status.st_size)
    for folder in folders:
        status = os.stat(f"{root}/{folder}")  # noqa: PTH116 - as above
        marks += (status.st_mtime_ns & _UNSIGNED, status.st_ino, 0)
    return array("Q", marks).tobytes()
