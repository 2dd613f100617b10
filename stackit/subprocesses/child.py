"""A child in its own process group, bounded in time and in output, that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from stackit.api.reactor import Reactor
from stackit.subprocesses.spawn import Descriptor, NotStarted, PipeReader, PipeWriter, limit_memory, memory, pipe, spawn

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

GRACE = 2.0
"""Seconds between asking a group to end (SIGTERM) and ending it (SIGKILL)."""

COLLECTED = (
    "something else in this process collected its exit status: a plugin that ignores SIGCHLD, or waits for any child "
    "(os.waitpid(-1)), and must wait for its own alone"
)
"""Why the status of a child is not known, for a person."""

STDERR_LIMIT = 64 * 1024
STDOUT_LIMIT = 16 * 1024 * 1024

_STDIN, _STDOUT, _STDERR, _SECRET = range(4)


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How a child ended.

    ``status`` is its exit code, -N where signal N ended it, None where nobody knows: something else in this process
    has collected the child. ``stdout`` is its beginning (``truncated`` where
    there was more), ``stderr`` its last 64 KiB. ``timed_out``: it was ended because its time was up, or
    because it stalled.
    """

    status: int | None
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
    most_memory: int = 0,
    on_stderr: Callable[[bytes], None] | None = None,
) -> Finished:
    """Run a program to its end, with exactly the environment ``env``.

    ``secret`` is what the child, and whatever it starts, can read from ``/dev/fd/3``. ``timeout`` is for
    the whole run, ``stall`` for silence on stdout and stderr, both in seconds; when either is over, the child
    and all its descendants are ended. ``limit`` bounds the stdout that is kept, in bytes. ``on_stderr`` sees
    each piece of stderr as it comes. ``most_memory`` is how many bytes of memory the child, and each that it starts,
    may have beside the files that it maps; 0 for as many as there are.

    Cancelling ends the child and its descendants, and waits until they are gone. A program that cannot be
    started ends with status 126 or 127, as in a shell. Raises OSError where the system is out of processes
    or descriptors.
    """
    try:
        child = Child(
            reactor,
            argv,
            env,
            secret=secret,
            timeout=timeout,
            stall=stall,
            limit=limit,
            most_memory=most_memory,
            on_stderr=on_stderr,
        )
    except NotStarted as problem:
        return Finished(status=problem.status, stdout=b"", stderr=f"{problem}\n".encode())
    return await child.given(stdin)


class Child:
    """A program that runs, and waits for what it is to read: see ``run`` for what the arguments mean.

    Raises NotStarted, and OSError where the system is out of processes or descriptors.
    """

    def __init__(
        self,
        reactor: Reactor,
        argv: Sequence[str | bytes],
        env: Mapping[str, str],
        *,
        secret: bytes | None = None,
        timeout: float | None = None,
        stall: float | None = None,
        limit: int = STDOUT_LIMIT,
        most_memory: int = 0,
        on_stderr: Callable[[bytes], None] | None = None,
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
        self._gone = False
        self._status: int | None = None
        self._finished: Finished | None = None
        self._timers: list[DelayedCall] = []
        self._stall_timer: DelayedCall | None = None
        self._waiter: Deferred[None] | None = None
        self._start(argv, env, secret, most_memory)
        if timeout is not None:
            self._timers.append(reactor.callLater(timeout, self._time_is_up))
        if stall is not None:
            self._stall_timer = reactor.callLater(stall, self._time_is_up)
            self._timers.append(self._stall_timer)

    async def given(self, stdin: bytes) -> Finished:
        """Let it read this, and wait for its end. Cancelling ends it and its descendants, and waits as well."""
        self._stdin.finish(stdin)
        return await self._end_of_it()

    async def dismissed(self) -> None:
        """End it, if it has not ended, and wait until it is gone."""
        self.end()
        await self._end_of_it()

    async def _end_of_it(self) -> Finished:
        cancelled: CancelledError | None = None
        while self._finished is None:
            try:
                self._waiter = Deferred()
                await self._waiter
            except CancelledError as problem:
                cancelled = problem
                self.end()
        if cancelled is not None:
            raise cancelled
        return self._finished

    def _start(
        self, argv: Sequence[str | bytes], env: Mapping[str, str], secret: bytes | None, most_memory: int
    ) -> None:
        ours: dict[int, int] = {}
        theirs: dict[int, int] = {}
        group = 0
        watch: int | None = None
        try:
            if secret is not None:
                theirs[_SECRET] = memory(secret)
            for number in (_STDIN, _STDOUT, _STDERR):
                reading, writing = pipe()
                outward = number in (_STDOUT, _STDERR)
                theirs[number], ours[number] = (writing, reading) if outward else (reading, writing)
            group = spawn(argv, env, theirs)
            if most_memory:
                limit_memory(group, most_memory)
            with contextlib.suppress(ProcessLookupError):  # it has ended, and somebody has collected it
                watch = os.pidfd_open(group)
        except BaseException:
            if group:  # nobody would see its end
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(group, signal.SIGKILL)
                    os.waitpid(group, 0)
            for descriptor in ours.values():
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs.values():
                os.close(descriptor)
        self._group = group
        self._stdin = PipeWriter(self._reactor, ours[_STDIN])
        self._readers: list[Descriptor] = [
            PipeReader(self._reactor, ours[_STDOUT], self._out, self._closed),
            PipeReader(self._reactor, ours[_STDERR], self._err, self._closed),
        ]
        self._open = len(self._readers)
        if watch is None:
            self._exited()
        else:
            _Exit(self._reactor, watch, self._exited)

    def _out(self, piece: bytes) -> None:
        room = self._limit - len(self._stdout)
        self._stdout += piece[:room]
        self._truncated = self._truncated or len(piece) > room
        self._progress()

    def _err(self, piece: bytes) -> None:
        self._stderr += piece
        del self._stderr[:-STDERR_LIMIT]
        self._progress()
        if self._on_stderr is not None:
            self._on_stderr(piece)

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
        if self._ending or self._finished is not None:
            return
        self._ending = True
        self._signal(signal.SIGTERM)
        self._timers.append(self._reactor.callLater(GRACE, self._signal, signal.SIGKILL))
        self._timers.append(self._reactor.callLater(2 * GRACE, self._let_go))

    def _signal(self, number: signal.Signals) -> None:
        # Gone; or what is left of the group runs as another user (a set-uid program), out of reach.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)

    def _let_go(self) -> None:
        for reader in self._readers:
            reader.close()

    def _exited(self) -> None:
        try:
            ended, status = os.waitpid(self._group, os.WNOHANG)
        except ChildProcessError:
            pass  # somebody else was first, and nobody tells how it ended
        else:
            if not ended:
                return  # the reactor stops, and lets go of everything
            self._status = os.waitstatus_to_exitcode(status)
        self._gone = True
        self._settle()
        # What the child left running holds its pipes, or would go on unseen.
        self.end()

    def _closed(self) -> None:
        self._open -= 1
        self._settle()

    def _settle(self) -> None:
        """It is over when the child has ended and nobody can write any more."""
        if not self._gone or self._open:
            return
        self._signal(signal.SIGKILL)
        for timer in self._timers:
            if timer.active():
                timer.cancel()
        self._stdin.close()
        self._finished = Finished(
            status=self._status,
            stdout=bytes(self._stdout),
            stderr=bytes(self._stderr),
            timed_out=self._timed_out,
            truncated=self._truncated,
        )
        if self._waiter is not None and not self._waiter.called:
            self._waiter.callback(None)


class _Exit(Descriptor):
    """Sees a child end: Linux makes the descriptor of a process readable then."""

    def __init__(self, reactor: Reactor, descriptor: int, exited: Callable[[], None]) -> None:
        super().__init__(reactor, descriptor, exited)
        reactor.addReader(self)

    def doRead(self) -> None:
        self.close()
