"""The state directory: made private, checked to be private, and held by one process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from stackit.api.errors import JournalError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Unusable(JournalError):
    """The disk refused an operation, which may succeed another time."""


def prepare(directory: Path) -> None:
    """Make ``directory`` if it is missing (mode 0700), and check that no other user can reach it.

    It holds payloads of private repositories. Raises JournalError with the way out.
    """
    try:
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
            _sync(directory.parent)
    except OSError as problem:
        raise Unusable(f"state directory {directory} cannot be made: {problem.strerror}") from None
    if not directory.is_dir():  # before its mode: nobody shall be told to chmod /dev/null
        raise JournalError(f"state directory {directory} is not a directory; choose another one")
    check_private(directory)


def check_private(path: Path) -> None:
    """Raise JournalError unless ``path`` belongs to this user and is closed to all others."""
    try:
        status = path.stat()
    except OSError as problem:
        raise JournalError(f"{path} cannot be used: {problem.strerror}") from None
    if status.st_uid != os.geteuid():
        raise JournalError(
            f"{path} belongs to user id {status.st_uid}, but stackit runs as {os.geteuid()}; "
            f"give it to that user (chown) or choose another state directory"
        )
    if status.st_mode & _OTHERS:
        mode = "700" if stat.S_ISDIR(status.st_mode) else "600"
        raise JournalError(f"{path} is open to other users, and holds private payloads: chmod {mode} {path}")


class DirectoryLock:
    """An exclusive lock on the state directory, until ``release`` or the end of the process.

    The kernel releases an flock however the process dies; the pid in the file is only for people.
    """

    def __init__(self, directory: Path) -> None:
        """Take the lock. Raises JournalError, naming the holder, where another process has it."""
        path = directory / "lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise Unusable(f"{path} cannot be opened: {problem.strerror}") from None
        try:
            check_private(path)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._file, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise JournalError(
                f"state directory {directory} is held by another stackit (pid {holder}); "
                f"stop that one, or give this one a state directory of its own"
            ) from None
        except JournalError:
            os.close(self._file)
            raise
        with contextlib.suppress(OSError):  # on a full disk it is held all the same
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Release the lock."""
        os.close(self._file)


def _sync(directory: Path) -> None:
    """Make the entries of ``directory`` durable."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_durable(new: Path, path: Path) -> None:
    """Make the complete file ``new`` durable, and rename it to ``path`` atomically."""
    sync_file(new)
    new.replace(path)
    _sync(path.parent)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
