"""The files that a plugin is made of, watched for changes by their times."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

Stamp = tuple[int, int, int]
"""Inode, size, time of modification."""


class WatchedFiles:
    """A plugin's file, the modules and packages beside it, and other files that matter."""

    def __init__(self, path: Path, *others: Path) -> None:
        self._path = path
        self._others = others
        self._known = self._stamps()

    def note(self) -> None:
        """Take the files as they are now for unchanged."""
        self._known = self._stamps()

    def changed(self) -> Path | None:
        """Return a file that has changed, has come or has gone since ``note``; None if all are as they were."""
        now = self._stamps()
        different = (path for path in {**now, **self._known} if now.get(path) != self._known.get(path))
        return next(different, None)

    def _stamps(self) -> Mapping[Path, Stamp]:
        found = {}
        for path in (self._path, *self._others, *_modules(self._path.parent)):
            try:
                status = path.stat()
            except OSError:  # an editor may be replacing it
                continue
            found[path] = status.st_ino, status.st_size, status.st_mtime_ns
        return found


def _modules(directory: Path) -> Iterator[Path]:
    """Yield the modules in a directory, and those in its packages. Other directories may be of any size."""
    try:
        entries = list(os.scandir(directory))
    except OSError:
        return
    for entry in entries:
        if entry.name.endswith(".py"):
            yield Path(entry.path)
        elif entry.is_dir() and (Path(entry.path) / "__init__.py").exists():
            yield from _modules(Path(entry.path))
