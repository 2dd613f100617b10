"""The memory that something other than the worker touched a mirror's objects."""

from __future__ import annotations

from pathlib import Path

from stackit.plugins.mirror.repository.tamper import ObjectDigest


class TamperWatch:
    """Remembers tampering until all objects were read. ``begin`` and ``end`` enclose each write by the worker."""

    def __init__(self, directory: Path) -> None:
        self.touched = False
        self._digest = ObjectDigest(directory)
        self._checked = False

    def check(self) -> bool:
        """Compare the objects with the last round, and return ``touched``."""
        self._checked = True
        self.touched = self.touched or self._digest.is_touched()
        return self.touched

    def check_once(self) -> bool:
        """Compare them only the first time, to see changes while stackit did not run."""
        return self.touched if self._checked else self.check()

    def begin(self) -> None:
        self._digest.begin()

    def end(self) -> None:
        self._digest.end()
