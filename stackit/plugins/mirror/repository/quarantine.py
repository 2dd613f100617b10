"""Keep new objects apart from a mirror's own until they are verified and complete.

Objects that are refused, or were cut short, then leave nothing in the mirror. git's receive-pack does the same.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from stackit.plugins.mirror.repository.growth import bytes_written

PREFIX = "tmp_objdir-"
"""The prefix of the names of quarantine directories, also of git's own."""


class Quarantine:
    """A directory for new objects of one mirror.

    With ``environment``, git writes objects there, and reads them from there and from the mirror.
    """

    def __init__(self, mirror: Path) -> None:
        """Raises OSError."""
        self._objects = mirror / "objects"
        self._directory = tempfile.mkdtemp(prefix=f"{PREFIX}stackit-", dir=self._objects)
        self.environment = {
            "GIT_OBJECT_DIRECTORY": self._directory,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(os.fspath(self._objects)),
        }

    def admit(self) -> int:
        """Move the objects into the mirror; return the bytes of their files. Raises OSError.

        A pack is moved before its index, by which git finds it.
        """
        size = 0
        with os.scandir(self._directory) as entries:
            folders = sorted(
                (entry.name for entry in entries if entry.is_dir()), key=lambda name: (name == "pack", name)
            )
        for name in folders:
            target = self._objects / name
            with os.scandir(f"{self._directory}/{name}") as found:
                files = sorted(found, key=lambda each: (each.name.endswith(".idx"), each.name))
            size += sum(each.stat(follow_symlinks=False).st_size for each in files)
            if name != "pack" and not target.exists():
                Path(self._directory, name).rename(target)
                continue
            target.mkdir(exist_ok=True)
            for each in files:
                if not each.name.startswith("tmp_") and not (target / each.name).exists():
                    Path(each.path).rename(target / each.name)
            with contextlib.suppress(OSError):  # not empty if the mirror had some of the files
                Path(self._directory, name).rmdir()
        return size

    def size(self) -> int:
        """Return the bytes of all files in it, as far as they are written."""
        return bytes_written(Path(self._directory), since=0)

    def drop(self) -> None:
        """Remove the directory, with all objects that were not admitted. No git may be at work in it any more."""
        try:
            Path(self._directory).rmdir()  # usually empty, as all objects were admitted
        except OSError:
            shutil.rmtree(self._directory, ignore_errors=True)


def quarantines(mirror: Path) -> Iterator[Path]:
    """Yield the quarantine directories in a mirror."""
    with contextlib.suppress(OSError), os.scandir(mirror / "objects") as entries:
        for entry in entries:
            if entry.name.startswith((PREFIX, "incoming-")) and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _quoted(path: str) -> str:
    """Quote a path for a list of paths, in which a colon separates two."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
