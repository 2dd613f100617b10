"""Small files that stackit itself writes for nobody else to read, such as secrets."""

from __future__ import annotations

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Make a file of mode 0600, and return once the disk has it.

    Raises FileExistsError where there is one, OSError where it cannot be made: then nothing is left of it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        sync(path.parent)
    except OSError:
        path.unlink(missing_ok=True)  # half a secret would be one
        raise


def sync(directory: Path) -> None:
    """Have the disk know the names of the files in a directory. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
