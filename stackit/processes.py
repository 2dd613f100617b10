"""A child in its own process group, bounded in time and in output, that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from stackit.app import Reactor
from stackit.errors import StackitError

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.internet.process import Process

GRACE = 2.0
"""Seconds between asking a group to end (SIGTERM) and ending it (SIGKILL)."""

STDERR_LIMIT = 64 * 1024
STDOUT_LIMIT = 16 * 1024 * 1024

_STDIN, _STDOUT, _STDERR, _SECRET = range(4)


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How a child ended.

    ``status`` is its exit code, -N where signal N ended it. ``stdout`` is its beginning (``truncated`` where
    there was more), ``stderr`` its last 64 KiB. ``timed_out``: it was ended because its time was up, or
    because it stalled.
    """

    status: int
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False


async def run(
    reactor: Reactor,
    argv: Sequence[str | bytes],
    *,
    env: Mapping[str, str],
    stdin: bytes = b"",
    secret: bytes | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the timers must come from ``reactor``, and end a group
    stall: float | None = None,
    limit: int = STDOUT_LIMIT,
    on_stderr: Callable[[bytes], None] | None = None,
) -> Finished:
    """Run a program to its end, with exactly the environment ``env``.

    ``secret`` is what the child, and whatever it starts, can read from file descriptor 3. ``timeout`` is for
    the whole run, ``stall`` for silence on stdout and stderr, both in seconds; when either is over, the child
    and all its descendants are ended. ``limit`` bounds the stdout that is kept, in bytes. ``on_stderr`` sees
    each piece of stderr as it comes.

    Cancelling ends the child and its descendants, and waits until they are gone. A program that cannot be
    started ends with status 126 or 127, as in a shell. Raises OSError where the system is out of processes
    or descriptors, StackitError where it has no ``setsid``.
    """
    # A session of its own is a group of its own: one signal reaches every descendant. Twisted could start the
    # group itself only by fork, which blocks the reactor for as long as copying this process's page tables takes.
    setsid = shutil.which("setsid")
    if setsid is None:
        raise StackitError("the program setsid is missing: install util-linux")
    child = _Child(reactor, stall=stall, limit=limit, on_stderr=on_stderr)
    pipes: dict[int, str | int] = {_STDIN: "w", _STDOUT: "r", _STDERR: "r"}
    if secret is not None:
        pipes[_SECRET] = "w"
    # path=None for the same reason: any other working directory means fork.
    transport = reactor.spawnProcess(child, setsid, [setsid, *argv], env=dict(env), path=None, childFDs=pipes)
    transport.writeToChild(_STDIN, stdin)
    transport.closeChildFD(_STDIN)
    if secret is not None:
        transport.writeToChild(_SECRET, secret)
        transport.closeChildFD(_SECRET)
    child.watch(timeout)
    cancelled: CancelledError | None = None
    while child.finished is None:
        try:
            await child.wait()
        except CancelledError as problem:
            cancelled = problem
            child.end()
    if cancelled is not None:
        raise cancelled
    return child.finished


class _Child(ProcessProtocol):
    """Collects the output of one child, and sees it and its group to their end."""

    transport: Process  # type: ignore[assignment]
    finished: Finished | None = None

    def __init__(
        self,
        reactor: Reactor,
        *,
        stall: float | None,
        limit: int,
        on_stderr: Callable[[bytes], None] | None,
    ) -> None:
        self._reactor = reactor
        self._stall = stall
        self._limit = limit
        self._on_stderr = on_stderr
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._truncated = False
        self._timed_out = False
        self._ending = False
        self._group = 0
        self._timers: list[DelayedCall] = []
        self._stall_timer: DelayedCall | None = None
        self._waiter: Deferred[None] | None = None

    def connectionMade(self) -> None:
        # Kept, because the transport forgets the id when it has collected the child; the group may live longer.
        self._group = self.transport.pid or 0

    def watch(self, timeout: float | None) -> None:
        if self.finished is not None:
            return
        if timeout is not None:
            self._timers.append(self._reactor.callLater(timeout, self._time_is_up))
        if self._stall is not None:
            self._stall_timer = self._reactor.callLater(self._stall, self._time_is_up)
            self._timers.append(self._stall_timer)

    def wait(self) -> Deferred[None]:
        """Fires when the child is finished. Cancelling ends the wait, not the child."""
        self._waiter = Deferred()
        return self._waiter

    def outReceived(self, data: bytes) -> None:
        room = self._limit - len(self._stdout)
        self._stdout += data[:room]
        self._truncated = self._truncated or len(data) > room
        self._progress()

    def errReceived(self, data: bytes) -> None:
        self._stderr += data
        del self._stderr[:-STDERR_LIMIT]
        self._progress()
        if self._on_stderr is not None:
            self._on_stderr(data)

    def _progress(self) -> None:
        if self._stall_timer is not None and self._stall_timer.active():
            self._stall_timer.reset(self._stall or 0)

    def _time_is_up(self) -> None:
        # A child that is already on its way out did end in time.
        if not self._ending:
            self._timed_out = True
            self.end()

    def end(self) -> None:
        """Ask the group to end; insist after the grace; after another, stop waiting for who holds its pipes."""
        if self._ending or self.finished is not None:
            return
        self._ending = True
        self._signal(signal.SIGTERM)
        self._timers.append(self._reactor.callLater(GRACE, self._signal, signal.SIGKILL))
        self._timers.append(self._reactor.callLater(2 * GRACE, self.transport.loseConnection))

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._group, number)
        except ProcessLookupError:
            # The group is gone, or setsid has not made it yet: then only the child itself is there.
            with contextlib.suppress(ProcessExitedAlready):
                self.transport.signalProcess(number)
        except PermissionError:
            pass  # what is left of the group runs as another user (a set-uid program), out of reach

    def processExited(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted's name
        # What the child left running holds its pipes, or would go on unseen.
        self.end()

    def processEnded(self, reason: Failure) -> None:
        self._signal(signal.SIGKILL)
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        ended = reason.value
        self.finished = Finished(
            status=(-ended.signal if ended.signal else ended.exitCode) if isinstance(ended, ProcessTerminated) else 0,
            stdout=bytes(self._stdout),
            stderr=bytes(self._stderr),
            timed_out=self._timed_out,
            truncated=self._truncated,
        )
        if self._waiter is not None and not self._waiter.called:
            self._waiter.callback(None)
