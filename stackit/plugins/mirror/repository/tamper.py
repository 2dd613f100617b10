"""Detect changes to a mirror that its own worker did not make: of its objects, and of its refs."""

from __future__ import annotations

import contextlib
import hashlib
import os
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec

OBJECT_DIGEST_FILE = "stackit-object-digest"

_REF_FILES = ("HEAD", "packed-refs")
_ABSENT = (0, 0, 0)
_UNSIGNED = 2**64 - 1


class ObjectDigest:
    """A digest of every file below ``objects``: name, size, mode and modification time.

    To verify all objects takes minutes, so it is done only after a file changed between two rounds of the worker.
    The digest lies in the mirror. It is absent during a round: after a crash, half-written objects do not count as
    tampering. Names count from the mirror on, so that a mirror may be moved.
    """

    def __init__(self, mirror: Path) -> None:
        self._mirror = mirror

    @property
    def _file(self) -> Path:
        return self._mirror / OBJECT_DIGEST_FILE

    def is_touched(self) -> bool:
        """Return True if a file differs from the end of the last round; False also if there is no digest."""
        try:
            return self._file.read_text("ascii") != self._digest()
        except (OSError, UnicodeDecodeError):
            return False

    def begin(self) -> None:
        """Remove the digest, at the beginning of a round."""
        with contextlib.suppress(OSError):
            self._file.unlink()

    def end(self) -> None:
        """Write the digest, at the end of a round. Without room on the disk there is none."""
        with contextlib.suppress(OSError):
            self._file.write_text(self._digest(), "ascii")

    def _digest(self) -> str:
        digest = hashlib.sha256()
        root = os.fspath(self._mirror)
        folders = [f"{root}/objects"]
        while folders:
            folder = folders.pop()
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                    line = f"{entry.path[len(root) :]}\0{status.st_mode}\n"
                else:
                    line = f"{entry.path[len(root) :]}\0{status.st_mode} {status.st_size} {status.st_mtime_ns}\n"
                digest.update(os.fsencode(line))
        return digest.hexdigest()


class RefStamps(msgspec.Struct, frozen=True):
    """Modification time, inode and size of HEAD, of the packed refs and of each folder of loose refs.

    ``folders`` are paths relative to the mirror. ``stamps`` is an array of unsigned 64-bit numbers, three (time in
    nanoseconds, inode, size) for each file, then for each folder: 24 bytes each.
    """

    folders: tuple[str, ...]
    stamps: bytes

    @property
    def newest(self) -> float:
        """The latest modification time, in epoch seconds."""
        return max(array("Q", self.stamps)[::3]) / 1e9

    def is_current(self, directory: Path) -> bool:
        """Return True if the mirror at ``directory`` still has these stamps.

        A new folder changes the one that it is in, so only the known folders are looked at.
        """
        try:
            return _stamps(os.fspath(directory), self.folders) == self.stamps
        except FileNotFoundError:
            return False


def ref_stamps(directory: Path) -> RefStamps:
    """Read the stamps of the mirror at ``directory``. Raises OSError if it has no refs."""
    root = os.fspath(directory)
    folders = tuple(_ref_folders(root))
    return RefStamps(folders, _stamps(root, folders))


def _ref_folders(root: str) -> Iterator[str]:
    waiting = ["refs"]
    while waiting:
        folder = waiting.pop()
        yield folder
        with os.scandir(f"{root}/{folder}") as entries:
            waiting += sorted(f"{folder}/{each.name}" for each in entries if each.is_dir(follow_symlinks=False))


def _stamps(root: str, folders: tuple[str, ...]) -> bytes:
    stamps: list[int] = []
    for name in _REF_FILES:
        try:
            status = os.stat(f"{root}/{name}")  # noqa: PTH116 - the quick check consists of little but these calls
        except FileNotFoundError:
            stamps += _ABSENT
        else:
            stamps += (status.st_mtime_ns & _UNSIGNED, status.st_ino, status.st_size)
    for folder in folders:
        status = os.stat(f"{root}/{folder}")  # noqa: PTH116 - as above
        stamps += (status.st_mtime_ns & _UNSIGNED, status.st_ino, 0)
    return array("Q", stamps).tobytes()
