"""A program started in a session of its own, and the reactor's ends of the pipes to it.

Twisted's ``spawnProcess`` can make a session only by fork, which blocks the reactor for as long as copying this
process's page tables takes, or through one more program (``setsid``), which costs as much as git itself does.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import resource
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor

NOT_FOUND, NOT_RUN = 127, 126
"""What a shell says of a program that is not there, and of one that cannot be run."""

_STANDARD = 3
_NEVER_A_PROGRAM = 8
"""MFD_NOEXEC_SEAL, of Linux 6.3: without it, a hardened machine (vm.memfd_noexec) gives no file in memory."""
_PIECE = 64 * 1024


class NotStarted(Exception):
    """There is no such program, or it cannot be run; ``status`` is what a shell says of it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def spawn(argv: Sequence[str | bytes], env: Mapping[str, str], descriptors: Mapping[int, int]) -> int:
    """Start a program, found in the ``PATH`` of ``env``; returns its id, which is also that of its group.

    ``descriptors`` are all that it has open: its own number for each of ours, which are above all of its own.
    Raises NotStarted, and OSError where the system is out of processes.
    """
    name = os.fsdecode(argv[0])
    program = shutil.which(name, path=env.get("PATH", os.defpath))
    if program is None:
        raise NotStarted(NOT_FOUND, f"{name}: there is no such program")
    _keep_what_was_inherited()
    # Python ignores some signals, and would have its children ignore them too.
    ignored = [each for each in signal.valid_signals() if signal.getsignal(each) is signal.SIG_IGN]
    actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in descriptors.items()]
    try:
        return os.posix_spawn(program, list(argv), env, file_actions=actions, setsid=True, setsigdef=ignored)
    except (FileNotFoundError, PermissionError) as problem:
        status = NOT_FOUND if isinstance(problem, FileNotFoundError) else NOT_RUN
        raise NotStarted(status, f"{name}: {problem.strerror}") from None


def limit_memory(process: int, size: int) -> None:
    """Let a process, and each that it starts, have so many bytes of memory; files that it maps do not count.

    It is as good as one that began with it: what it has started meanwhile is looked for.
    """
    _, hardest = resource.getrlimit(resource.RLIMIT_DATA)
    size = size if hardest == resource.RLIM_INFINITY else min(size, hardest)
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # gone
        resource.prlimit(process, resource.RLIMIT_DATA, (size, size))
        for child in Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split():
            limit_memory(int(child), size)


def pipe() -> tuple[int, int]:
    """The two ends of a pipe, to read and to write, out of the way of the numbers that a child has. Raises OSError."""
    ends = os.pipe()
    if min(ends) > _STANDARD:
        return ends
    try:
        reading, writing = (fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _STANDARD + 1) for end in ends)
    finally:
        for end in ends:
            os.close(end)
    return reading, writing


def memory(content: bytes) -> int:
    """A file in memory that has this content, out of the way as those of ``pipe``, to be opened by ``/dev/fd``.

    Whoever opens it so reads it from its beginning, as often as they like; as a descriptor it is read once. Raises
    OSError.
    """
    made = _memory()
    try:
        with os.fdopen(os.dup(made), "wb") as file:
            file.write(content)
        os.lseek(made, 0, os.SEEK_SET)
        return fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, _STANDARD + 1)
    finally:
        os.close(made)


def _memory() -> int:
    try:
        return os.memfd_create("secret", os.MFD_CLOEXEC | _NEVER_A_PROGRAM)
    except OSError as problem:
        if problem.errno != errno.EINVAL:  # which says that this Linux does not know the flag, and needs none
            raise
    return os.memfd_create("secret", os.MFD_CLOEXEC)


@functools.cache
def _keep_what_was_inherited() -> None:
    """What this process was started with is no business of its children; what it opens itself, Python keeps back."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) >= _STANDARD:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.set_inheritable(int(entry.name), False)


class Descriptor:
    """A descriptor that the reactor watches. ``closed`` is called once, when it is."""

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
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            os.close(self._descriptor)
            self._descriptor = -1
            self._closed()


class PipeReader(Descriptor):
    """What a child writes; ``received`` sees each piece."""

    def __init__(
        self, reactor: Reactor, descriptor: int, received: Callable[[bytes], None], closed: Callable[[], None]
    ) -> None:
        super().__init__(reactor, descriptor, closed)
        self._received = received
        reactor.addReader(self)

    def doRead(self) -> Exception | None:
        try:
            piece = os.read(self._descriptor, _PIECE)
        except BlockingIOError:
            return None
        if not piece:
            return CONNECTION_DONE
        self._received(piece)
        return None


class PipeWriter(Descriptor):
    """What a child reads. It may stop reading when it likes."""

    def __init__(self, reactor: Reactor, descriptor: int) -> None:
        super().__init__(reactor, descriptor, lambda: None)
        self._left = memoryview(b"")

    def finish(self, content: bytes) -> None:
        """Let it read this, and then find the end."""
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
            pass  # nobody reads any more
        return CONNECTION_DONE
