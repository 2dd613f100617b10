"""The reactor's ends of the pipes to a child."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor

STANDARD = 3
"""The number of descriptors that every program has; those of the parent are moved above a fourth."""

_READ_SIZE = 64 * 1024


def pipe() -> tuple[int, int]:
    """Return the two ends of a pipe, to read and to write, above the numbers that a child uses. Raises OSError."""
    ends = os.pipe()
    if min(ends) > STANDARD:
        return ends
    try:
        reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, STANDARD + 1) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return reading, writing


class Descriptor:
    """A descriptor that the reactor watches. ``closed`` is called once, when it is closed."""

    def __init__(self, reactor: Reactor, descriptor: int, closed: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self._reactor = reactor
        self._descriptor = descriptor
        self._closed = closed

    def fileno(self) -> int:
        return self._descriptor

    def logPrefix(self) -> str:
        return type(self).__name__

    def connectionLost(self, reason: Failure | None = None) -> None:  # noqa: ARG002 - the reactor's
        self.close()

    def close(self) -> None:
        """Close the descriptor, unless it is closed."""
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            os.close(self._descriptor)
            self._descriptor = -1
            self._closed()


class PipeReader(Descriptor):
    """The output of a child. ``received`` is called with each piece, of at most 64 KiB."""

    def __init__(
        self, reactor: Reactor, descriptor: int, received: Callable[[bytes], None], closed: Callable[[], None]
    ) -> None:
        super().__init__(reactor, descriptor, closed)
        self._received = received
        reactor.addReader(self)

    def pause(self) -> None:
        """Read no more for now: the child waits, once the pipe is full."""
        self._reactor.removeReader(self)

    def resume(self) -> None:
        """Read on."""
        if self._descriptor >= 0:
            self._reactor.addReader(self)

    def doRead(self) -> Exception | None:
        try:
            piece = os.read(self._descriptor, _READ_SIZE)
        except BlockingIOError:
            return None
        if not piece:
            return CONNECTION_DONE
        self._received(piece)
        return None


class PipeWriter(Descriptor):
    """The input of a child, which may stop reading at any time."""

    def __init__(self, reactor: Reactor, descriptor: int) -> None:
        super().__init__(reactor, descriptor, lambda: None)
        self._left = memoryview(b"")

    def write_and_close(self, content: bytes) -> None:
        """Write everything, then close: the child reads the content, and then the end of the file."""
        self._left = memoryview(content)
        if self.doWrite() is not None:
            self.close()
        elif self._descriptor >= 0:
            self._reactor.addWriter(self)

    def doWrite(self) -> Exception | None:
        try:
            while self._left:
                self._left = self._left[os.write(self._descriptor, self._left) :]
        except BlockingIOError:
            return None
        except OSError:
            pass  # the child no longer reads
        return CONNECTION_DONE
