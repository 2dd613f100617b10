"""Standard output, written to without ever waiting for its reader."""

from __future__ import annotations

import os
import select
import socket
import stat
import time
from collections.abc import Callable
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING

from stackit.api.reactor import Reactor

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

MOST_KEPT = 2**20
"""Bytes of lines that are kept for a reader who does not read."""

_PAUSE = 0.5
_ATOMIC = select.PIPE_BUF  # a pipe that has room has room for this much
_PATIENCE = 1.0

Send = Callable[[bytes], int]
"""Writes the bytes that can be written now, and returns their number; raises BlockingIOError where there are none."""


class NonBlockingStream:
    """A stream of whole lines to a descriptor.

    What its reader does not take is kept, up to a megabyte; further lines are dropped. Once it reads on, a line
    tells how many. ``dropped`` is their number since the start. May be written to by any thread.
    """

    __slots__ = (
        "_encoding",
        "_kept",
        "_lock",
        "_reactor",
        "_say",
        "_send",
        "_timer",
        "_unreported",
        "_waits",
        "dropped",
    )

    def __init__(self, descriptor: int, encoding: str) -> None:
        self.dropped = 0
        self._encoding = encoding
        self._send = _sender(descriptor)
        self._lock = RLock()  # what the garbage collector ends may have something to log, at any time
        self._kept = bytearray()
        self._unreported = 0
        self._say: Callable[[int], str] | None = None
        self._reactor: Reactor | None = None
        self._timer: DelayedCall | None = None
        self._waits = False

    @property
    def encoding(self) -> str:
        """Return the encoding of the lines."""
        return self._encoding

    def write(self, text: str) -> None:
        """Write whole lines, or keep them, or drop them. Never waits, and raises nothing."""
        data = text.encode(self._encoding, "backslashreplace")
        with self._lock:
            if self._kept or self._unreported:
                self._push()
            if self._kept or self._unreported:
                self._keep(data)
            else:
                sent = self._sent(data)
                if sent < len(data):
                    self._kept += data[sent:]
            self._wait()

    def flush(self) -> None:
        """Do nothing: no line is held back."""

    def hold(self, reactor: Reactor, say: Callable[[int], str]) -> None:
        """Write kept lines by timers from now on. ``say`` makes the line that tells how many were lost."""
        with self._lock:
            self._reactor, self._say = reactor, say
            self._wait()

    def release(self) -> None:
        """Give a slow reader a last second to take what is kept."""
        with self._lock:
            self._reactor = None
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            with self._lock:
                self._push()
                if not (self._kept or self._unreported):
                    return
            time.sleep(0.01)

    # -- with the lock held ---------------------------------------------------------------

    def _push(self) -> None:
        """Write the kept bytes as far as the stream takes them, and then the line about lost ones."""
        if self._kept:
            del self._kept[: self._sent(bytes(self._kept))]
        if not self._kept and self._unreported and self._say is not None:
            line = self._say(self._unreported).encode(self._encoding, "backslashreplace")
            sent, failed = self._try(line)
            if sent and not failed:
                self._unreported = 0
                self._kept += line[sent:]

    def _keep(self, data: bytes) -> None:
        if self._unreported or len(self._kept) + len(data) > MOST_KEPT:
            self._drop(data)
        else:
            self._kept += data

    def _drop(self, data: bytes) -> None:
        lines = data.count(b"\n")
        self.dropped += lines
        self._unreported += lines

    def _sent(self, data: bytes) -> int:
        """Write ``data``, and return the bytes that need not be kept: all of them where the stream is broken."""
        sent, failed = self._try(data)
        if failed:
            self._drop(data[sent:])
            return len(data)
        return sent

    def _try(self, data: bytes) -> tuple[int, bool]:
        """Return the bytes written, and True where the rest never will be: a full disk, or a closed pipe."""
        sent = 0
        try:
            while sent < len(data):
                sent += self._send(data[sent:] if sent else data)
        except BlockingIOError:
            return sent, False
        except OSError:
            return sent, True
        return sent, False

    def _wait(self) -> None:
        if (self._kept or self._unreported) and self._reactor is not None and not self._waits:
            self._waits = True
            self._reactor.callFromThread(self._later)

    # -- in the reactor's thread ----------------------------------------------------------

    def _later(self) -> None:
        if self._reactor is not None:
            self._timer = self._reactor.callLater(_PAUSE, self._again)

    def _again(self) -> None:
        with self._lock:
            self._timer = None
            self._waits = False
            self._push()
            self._wait()


def _sender(descriptor: int) -> Send:
    """Return the function that writes to a descriptor of this kind without waiting.

    Its own mode is left alone: others (a shell, a parent) may share it.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISSOCK(mode):
        channel = socket.socket(fileno=os.dup(descriptor))
        return lambda data: channel.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    if not (stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)):
        return partial(os.write, descriptor)  # a file takes what it gets, or says that it does not
    try:
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # of another user, as after su
        return partial(_when_ready, descriptor)
    return partial(os.write, own)


def _when_ready(descriptor: int, data: bytes) -> int:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[:_ATOMIC])
