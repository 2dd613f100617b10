"""Room on the disk for the files that twistd writes, where no error of it would be a line for people."""

from __future__ import annotations

import tempfile
from pathlib import Path

from stackit.api.errors import StackitError, is_full_disk

_LINE = b"one line of a log, or a number\n"


def check_room(directory: Path) -> None:
    """Raise OSError unless a file in ``directory`` can be written."""
    with tempfile.TemporaryFile(dir=directory) as file:
        file.write(_LINE)


def check_pid_file(name: str) -> None:
    """Raise StackitError, with the way out, where the PID file cannot be written. An empty name is for none."""
    if not name:
        return
    path = Path(name).absolute()
    try:
        check_room(path.parent)
    except OSError as problem:
        way_out = "name another one with --pidfile=FILE, or say --pidfile= for none"
        if is_full_disk(problem):
            reason = f"the disk is full: the PID file {path} cannot be written; make room there"
            raise StackitError(f"{reason}, {way_out}") from None
        raise StackitError(f"the PID file {path} cannot be written: {problem.strerror}; {way_out}") from None
