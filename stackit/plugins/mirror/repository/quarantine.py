"""New objects apart from a mirror's own, until it is sure that they are whole and lack nothing.

What is refused, or was cut short, then leaves nothing in the mirror: git's receive-pack does the same for a push.
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
"""What the names of such directories begin with, git's own as well."""


class Quarantine:
    """A directory for the new objects of one mirror. ``environment`` has git write there, and read from both."""

    def __init__(self, mirror: Path) -> None:
        """Raises OSError."""
        self._objects = mirror / "objects"
        self._directory = tempfile.mkdtemp(prefix=f"{PREFIX}stackit-", dir=self._objects)
        self.environment = {
            "GIT_OBJECT_DIRECTORY": self._directory,
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(os.fspath(self._objects)),
        }

    def admit(self) -> int:
        """Take the objects into the mirror; returns how many bytes of files they are. Raises OSError.

        Each file is moved, and so as durable as git made it. A pack comes before its index, by which it is found.
        """
        size = 0
        with os.scandir(self._directory) as entries:
            folders = sorted(
                (entry.name for entry in entries if entry.is_dir()), key=lambda name: (name == "pack", name)
            )
        for name in folders:
            place = self._objects / name
            with os.scandir(f"{self._directory}/{name}") as found:
                files = sorted(found, key=lambda each: (each.name.endswith(".idx"), each.name))
            size += sum(each.stat(follow_symlinks=False).st_size for each in files)
            if name != "pack" and not place.exists():
                Path(self._directory, name).rename(place)
                continue
            place.mkdir(exist_ok=True)
            for each in files:
                if not each.name.startswith("tmp_") and not (place / each.name).exists():
                    Path(each.path).rename(place / each.name)
            with contextlib.suppress(OSError):  # what was there already is still in it
                Path(self._directory, name).rmdir()
        return size

    def size(self) -> int:
        """The bytes of all files in it, as far as they are written."""
        return bytes_written(Path(self._directory), since=0)

    def drop(self) -> None:
        """Remove it, with all that was not taken in. No git may be at work in it any more."""
        try:
            Path(self._directory).rmdir()  # everything was taken in, most often
        except OSError:
            shutil.rmtree(self._directory, ignore_errors=True)


def quarantines(mirror: Path) -> Iterator[Path]:
    """The directories of this kind that there are in a mirror."""
    with contextlib.suppress(OSError), os.scandir(mirror / "objects") as entries:
        for entry in entries:
            if entry.name.startswith((PREFIX, "incoming-")) and entry.is_dir(follow_symlinks=False):
                yield Path(entry.path)


def _quoted(path: str) -> str:
    """As in a list of paths, where a colon would separate two."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
