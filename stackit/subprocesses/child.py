"""A child in a process group of its own, bounded in time and output, with all its descendants."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from stackit.api.reactor import Reactor
from stackit.subprocesses.pipes import Descriptor, PipeReader, PipeWriter, pipe
from stackit.subprocesses.spawn import NotStarted, limit_memory, memory_file, spawn
from stackit.text.units import seconds

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

COLLECTED = (
    "something else in this process collected its exit status: a plugin that ignores SIGCHLD, or waits for any child "
    "(os.waitpid(-1)), and must wait for its own alone"
)
"""The reason why ``Finished.status`` is None, for a person."""

STDERR_LIMIT = 64 * 1024
"""Bytes of stderr that are kept, of its end."""

_STDIN, _STDOUT, _STDERR, _SECRET = range(4)


class ProcessLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a child and its descendants, which are ended when a time is over.

    Times are in seconds, or a text such as ``"90s"``. ``timeout`` is for the whole run, ``stall`` for silence on stdout
    and stderr (None: no limit). ``stdout`` is how many bytes of stdout are kept. ``memory`` is how many bytes of memory
    each process may have beside the files that it maps (0: no limit). ``grace`` is the time between asking the
    processes to end (SIGTERM) and ending them (SIGKILL).
    """

    timeout: float | str | None = None
    stall: float | str | None = None
    stdout: int = 16 * 1024 * 1024
    memory: int = 0
    grace: float | str = 2.0


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a child.

    ``status`` is its exit code, -N if signal N ended it, None if it is not known, since something else in this process
    has collected the child. ``stdout`` is the beginning of its output (``truncated`` if there was more), ``stderr`` the
    last 64 KiB of its messages. ``timed_out``: it was ended because its time was up, or because it stalled.
    """

    status: int | None
    stdout: bytes
    stderr: bytes
    timed_out: bool = False
    truncated: bool = False


_DEFAULT = ProcessLimits()


async def run(
    reactor: Reactor,
    argv: Sequence[str | bytes],
    *,
    env: Mapping[str, str],
    stdin: bytes = b"",
    secret: bytes | None = None,
    limits: ProcessLimits = _DEFAULT,
    on_stdout: Callable[[bytes], None] | None = None,
    on_stderr: Callable[[bytes], None] | None = None,
) -> Finished:
    """Run a program to its end, with exactly the environment ``env``.

    The program reads ``stdin``; it and its descendants can read ``secret`` from ``/dev/fd/3``. ``on_stderr`` is called
    with each piece of stderr as it comes. With ``on_stdout``, which is called with each piece of stdout, of at most
    64 KiB, none of it is kept.

    Cancelling ends the child and its descendants, and waits until they are gone. A program that cannot be
    started ends with status 126 or 127, as in a shell. Raises OSError if the system is out of processes
    or descriptors.
    """
    try:
        child = Child(reactor, argv, env, secret=secret, limits=limits, on_stdout=on_stdout, on_stderr=on_stderr)
    except NotStarted as problem:
        return Finished(status=problem.status, stdout=b"", stderr=f"{problem}\n".encode())
    return await child.communicate(stdin)


class Child:
    """A program that has started, and waits for its input. The arguments are those of ``run``.

    Raises NotStarted, and OSError if the system is out of processes or descriptors.
    """

    def __init__(
        self,
        reactor: Reactor,
        argv: Sequence[str | bytes],
        env: Mapping[str, str],
        *,
        secret: bytes | None = None,
        limits: ProcessLimits = _DEFAULT,
        on_stdout: Callable[[bytes], None] | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._limits = limits
        self._on_stdout = on_stdout
        self._on_stderr = on_stderr
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._truncated = False
        self._timed_out = False
        self._terminating = False
        self._exited = False
        self._status: int | None = None
        self._finished: Finished | None = None
        self._timers: list[DelayedCall] = []
        self._stall_timer: DelayedCall | None = None
        self._waiter: Deferred[None] | None = None
        timeout, stall = (None if each is None else seconds(each) for each in (limits.timeout, limits.stall))
        self._stall, self._grace = stall or 0, seconds(limits.grace)
        self._start(argv, env, secret)
        if timeout is not None:
            self._timers.append(reactor.callLater(timeout, self._time_is_up))
        if stall is not None:
            self._stall_timer = reactor.callLater(stall, self._time_is_up)
            self._timers.append(self._stall_timer)

    async def communicate(self, stdin: bytes) -> Finished:
        """Write the input, and wait for the end. Cancelling ends the child and its descendants, and waits as well."""
        self._stdin.write_and_close(stdin)
        return await self._wait()

    def pause(self) -> None:
        """Read no more of its output for now. It waits, once it has written 64 KiB more."""
        if not self._exited:
            for reader in self._readers:
                reader.pause()

    def resume(self) -> None:
        """Read on."""
        for reader in self._readers:
            reader.resume()

    async def close(self) -> None:
        """End the child, if it has not ended, and wait until it and its descendants are gone."""
        self.terminate()
        await self._wait()

    async def _wait(self) -> Finished:
        cancelled: CancelledError | None = None
        while self._finished is None:
            try:
                self._waiter = Deferred()
                await self._waiter
            except CancelledError as problem:
                cancelled = problem
                self.terminate()
        if cancelled is not None:
            raise cancelled
        return self._finished

    def _start(self, argv: Sequence[str | bytes], env: Mapping[str, str], secret: bytes | None) -> None:
        ours: dict[int, int] = {}
        theirs: dict[int, int] = {}
        group = 0
        watch: int | None = None
        try:
            if secret is not None:
                theirs[_SECRET] = memory_file(secret)
            for number in (_STDIN, _STDOUT, _STDERR):
                reading, writing = pipe()
                outward = number in (_STDOUT, _STDERR)
                theirs[number], ours[number] = (writing, reading) if outward else (reading, writing)
            group = spawn(argv, env, theirs)
            if self._limits.memory:
                limit_memory(group, self._limits.memory)
            with contextlib.suppress(ProcessLookupError):  # it has ended, and something else has collected it
                watch = os.pidfd_open(group)
        except BaseException:
            if group:  # its end would not be seen
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
        self._readers = [
            PipeReader(self._reactor, ours[_STDOUT], self._out, self._closed),
            PipeReader(self._reactor, ours[_STDERR], self._err, self._closed),
        ]
        self._open = len(self._readers)
        if watch is None:
            self._child_exited()
        else:
            _Exit(self._reactor, watch, self._child_exited)

    def _out(self, piece: bytes) -> None:
        self._progress()
        if self._on_stdout is not None:
            self._on_stdout(piece)
            return
        room = self._limits.stdout - len(self._stdout)
        self._stdout += piece[:room]
        self._truncated = self._truncated or len(piece) > room

    def _err(self, piece: bytes) -> None:
        self._stderr += piece
        del self._stderr[:-STDERR_LIMIT]
        self._progress()
        if self._on_stderr is not None:
            self._on_stderr(piece)

    def _progress(self) -> None:
        if self._stall_timer is not None and self._stall_timer.active():
            self._stall_timer.reset(self._stall)

    def _time_is_up(self) -> None:
        # A child that is already on its way out did end in time.
        if not self._terminating:
            self._timed_out = True
            self.terminate()

    def terminate(self) -> None:
        """Ask the group to end; kill it after the grace; after another, close its pipes in any case."""
        if self._terminating or self._finished is not None:
            return
        self._terminating = True
        self._signal(signal.SIGTERM)
        self._timers.append(self._reactor.callLater(self._grace, self._signal, signal.SIGKILL))
        self._timers.append(self._reactor.callLater(2 * self._grace, self._close_pipes))

    def _signal(self, number: signal.Signals) -> None:
        # Gone; or what is left of the group runs as another user (a set-uid program), out of reach.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._group, number)

    def _close_pipes(self) -> None:
        for reader in self._readers:
            reader.close()

    def _child_exited(self) -> None:
        try:
            ended, status = os.waitpid(self._group, os.WNOHANG)
        except ChildProcessError:
            pass  # something else was first, and its status is lost
        else:
            if not ended:
                return  # the reactor stops, and closes every descriptor
            self._status = os.waitstatus_to_exitcode(status)
        self._exited = True
        self.resume()  # what it has written is in the pipes, and little
        self._finish_if_over()
        # The processes that the child left running hold its pipes, or would go on unseen.
        self.terminate()

    def _closed(self) -> None:
        self._open -= 1
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        """Finish when the child has ended, and no process holds its pipes any more."""
        if not self._exited or self._open:
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
    """The descriptor of a process, which Linux makes readable when the process ends."""

    def __init__(self, reactor: Reactor, descriptor: int, exited: Callable[[], None]) -> None:
        super().__init__(reactor, descriptor, exited)
        reactor.addReader(self)

    def doRead(self) -> None:
        self.close()
