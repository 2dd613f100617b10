"""The wall clock of a process under test, which is set as a test wants it."""

from __future__ import annotations

from pathlib import Path

# Python reads it before anything else: the whole process has the clock that the file says.
_SITE = """
import os, time

real = time.time

def faked():
    with open(os.environ["AHEAD"]) as file:
        return real() + float(file.read() or 0)

time.time = faked
"""


class WrongClock:
    """``plugins`` and ``environment`` are for the process; other modules may be put into the directory ``plugins``."""

    def __init__(self, directory: Path, ahead: float = 0.0) -> None:
        self.plugins = directory / "site"
        self.plugins.mkdir(parents=True)
        (self.plugins / "sitecustomize.py").write_text(_SITE)
        self._ahead = directory / "ahead"
        self.environment = {"AHEAD": str(self._ahead)}
        self.set(ahead)

    def set(self, ahead: float) -> None:
        """Set it so many seconds ahead of the machine's, also while the process runs."""
        beside = self._ahead.with_suffix(".new")
        beside.write_text(str(ahead))
        beside.rename(self._ahead)
