"""Small files that are replaced while stackit runs, such as secrets, read without ever waiting for them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

LARGEST = 64 * 2**10
"""Bytes that such a file may have, unless another bound is given."""

Version = tuple[int, int, int]
"""The version of a file: inode, size, time of modification."""


def read(path: Path, largest: int = LARGEST) -> bytes:
    """Return the content of a regular file of at most ``largest`` bytes.

    Raises OSError where it cannot be read, ValueError where it is no regular file, or larger.
    """
    _version(path)  # before it is opened: opening is something that a device may act on
    # Should it have become a pipe in between, opening it must not wait for somebody who writes.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor))
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest // 2**10} KiB")
    return content


def reason(problem: OSError | ValueError) -> str:
    """Return an error of ``read`` in a few words, without any of the content."""
    if isinstance(problem, UnicodeDecodeError):
        return "it is not UTF-8 text"
    return getattr(problem, "strerror", None) or str(problem)


class WatchedFile:
    """A file that is read again when it changes.

    ``take`` is given the content: at the first look, and whenever it changed. It may raise ValueError, whose text
    goes to people. ``complain`` is told why the file cannot be read: once, until it can be again.
    """

    __slots__ = ("_complain", "_complained", "_path", "_take", "_version")

    def __init__(self, path: Path, take: Callable[[bytes], None], complain: Callable[[str], None]) -> None:
        self._path = path
        self._take = take
        self._complain = complain
        self._version: Version | None = None
        self._complained = False

    def look(self) -> None:
        """See whether the file changed. Never raises for what is wrong with it."""
        try:
            version = _version(self._path)
            if version != self._version:
                self._take(read(self._path))
                self._version = version
            self._complained = False
        except (OSError, ValueError) as problem:
            if not self._complained:
                self._complained = True
                self._complain(reason(problem))


def _version(path: Path) -> Version:
    status = path.stat()
    _check_regular(status)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a regular file")
