"""How much of the disk a mirror takes beyond what came for it: deltas that became whole files, packs with copies."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

TOO_MUCH = 64 * 2**20
"""Bytes that a mirror may grow beyond what was sent, before it is repacked at the next idle moment."""


class Growth:
    """What one mirror has grown since it was repacked, in bytes beyond what its remote sent."""

    def __init__(self) -> None:
        self._excess = 0

    @property
    def is_too_much(self) -> bool:
        return self._excess >= TOO_MUCH

    def add(self, written: int, sent: int) -> None:
        """``written`` to the disk for what was ``sent``."""
        self._excess += max(0, written - sent)

    def repacked(self) -> None:
        """It takes what it needs, and no more."""
        self._excess = 0


def bytes_written(objects: Path, since: float) -> int:
    """The bytes in files below a directory of objects that were written after an epoch time."""
    size = 0
    folders = [os.fspath(objects)]
    while folders:
        folder = folders.pop()
        # It may be removed while we look.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    # Every file that is new has touched its folder.
                    if status.st_mtime >= since:
                        folders.append(entry.path)
                elif status.st_mtime >= since:
                    size += status.st_size
    return size
