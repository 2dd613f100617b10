"""Measure how much more disk a mirror takes than its remote sent: unpacked deltas, copies of objects in packs."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TOO_MUCH = 64 * 2**20
"""Bytes that a mirror may grow beyond what its remote sent, before it is repacked at the next idle moment."""


class Growth:
    """The growth of one mirror since its last repack, in bytes beyond what its remote sent."""

    def __init__(self, limit: int = TOO_MUCH) -> None:
        self.limit = limit
        self._excess = 0

    @property
    def is_too_much(self) -> bool:
        return self._excess >= self.limit

    def add(self, written: int, sent: int) -> None:
        """Count bytes ``written`` to the disk for bytes ``sent`` by the remote."""
        self._excess += max(0, written - sent)

    def reset(self) -> None:
        """Start again from zero, after a repack."""
        self._excess = 0


def bytes_written(objects: Path, since: float) -> int:
    """Return the bytes in files below a directory of objects that were modified since an epoch time."""
    size = 0
    folders = [os.fspath(objects)]
    while folders:
        folder = folders.pop()
        # git may remove it meanwhile.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    # A new file has changed the modification time of its folder.
                    if status.st_mtime >= since:
                        folders.append(entry.path)
                elif status.st_mtime >= since:
                    size += status.st_size
    return size
