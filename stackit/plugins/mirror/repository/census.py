"""Who touched the objects of a mirror: only git, in rounds of ours, or somebody else as well."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

_FILE = "stackit-census"


class Census:
    """A digest of every file below ``objects``: its name, size, mode and time.

    Reading all objects to see whether they are whole takes minutes, so that is done only where a file was
    touched in between two rounds. The digest lies in the mirror and is absent during a round, so that
    what a crash left half done is not taken for somebody's hand.
    """

    def __init__(self, mirror: Path) -> None:
        self._mirror = mirror

    @property
    def _file(self) -> Path:
        return self._mirror / _FILE

    def is_touched(self) -> bool:
        """Whether a file is not as the last round left it. False where that is not known."""
        try:
            return self._file.read_text("ascii") != self._digest()
        except (OSError, UnicodeDecodeError):
            return False

    def begin(self) -> None:
        """A round begins to write."""
        with contextlib.suppress(OSError):
            self._file.unlink()

    def end(self) -> None:
        """A round is over."""
        with contextlib.suppress(OSError):  # a disk that is full: then it is not known
            self._file.write_text(self._digest(), "ascii")

    def _digest(self) -> str:
        digest = hashlib.sha256()
        folders = [os.fspath(self._mirror / "objects")]
        while folders:
            folder = folders.pop()
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    line = f"{entry.path}\0{status.st_mode}\n"
                else:
                    line = f"{entry.path}\0{status.st_mode} {status.st_size} {status.st_mtime_ns}\n"
                digest.update(os.fsencode(line))
        return digest.hexdigest()
