"""The standard streams of the shell, which may be closed, full, or read by a program that has ended."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from stackit.api.errors import StackitError

BROKEN_PIPE = 141
"""The exit status of a program that SIGPIPE ended, as shells tell it: the reader wants no more."""

_STDIN, _STDOUT, _STDERR = range(3)


class OutputError(StackitError):
    """Standard output takes no more. ``status`` is the exit status; there is nothing to say where a pipe was closed."""

    def __init__(self, fault: OSError) -> None:
        super().__init__(f"standard output cannot be written: {fault.strerror}")
        self.status = BROKEN_PIPE if fault.errno == errno.EPIPE else 1

    @property
    def is_silent(self) -> bool:
        """True if the reader has gone, which is no fault."""
        return self.status == BROKEN_PIPE


class _Stream(io.TextIOWrapper):
    """A stream whose failures go to ``failed``. Characters that its encoding lacks are escaped."""

    def __init__(self, descriptor: int, failed: Callable[[OSError], None]) -> None:
        raw = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - it lives as long as the process
        super().__init__(raw, errors="backslashreplace", line_buffering=descriptor == _STDERR or raw.isatty())
        self._failed = failed

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return super().write(text)
        except OSError as fault:
            self._failed(fault)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            super().flush()
        except OSError as fault:
            self._failed(fault)


def open_streams() -> tuple[TextIO, TextIO]:
    """Put streams in the place of ``sys.stdout`` and ``sys.stderr``, and return both.

    Writing to standard output raises OutputError where that is not possible; what standard error does not take is lost.
    """
    _reserve_descriptors()

    def output_failed(fault: OSError) -> None:
        silence(_STDOUT)  # what is buffered cannot be written either, and Python tries as it ends
        raise OutputError(fault) from None

    def errors_failed(_: OSError) -> None:
        silence(_STDERR)

    sys.stdout, sys.stderr = _Stream(_STDOUT, output_failed), _Stream(_STDERR, errors_failed)
    return sys.stdout, sys.stderr


def silence(descriptor: int = _STDERR) -> None:
    """Have nothing more come out of a standard stream."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _reserve_descriptors() -> None:
    """Open the standard streams that are closed, so that no connection takes their numbers; they cannot be written."""
    for descriptor in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
