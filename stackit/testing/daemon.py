"""A child process that goes on running, with its output: ``twistd`` under test."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.process import ProcessReader, ProcessWriter
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor

if TYPE_CHECKING:
    from twisted.internet.process import Process


_READS = 16
"""Reads of 8 KiB, in which a pipe of 64 KiB is empty."""


class Daemon(ProcessProtocol):
    """One run of a program. ``output`` is its output so far; ``status`` is its exit status, None while it runs."""

    transport: Process  # type: ignore[assignment]  # a process has no other

    def __init__(self) -> None:
        self.output = bytearray()
        self.status: int | None = None
        self._waiting: list[Deferred[int]] = []

    @classmethod
    def spawn(
        cls,
        reactor: Reactor,
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        inherit_output: bool = False,
        descriptors: Sequence[int] = (),
    ) -> Daemon:
        """Start a program with exactly this environment.

        With ``inherit_output`` it writes where this process does, and ``output`` stays empty. ``descriptors`` are its
        own from 3 on.
        """
        daemon = cls()
        files: dict[int, int | str] = {0: "w", 1: 1, 2: 2} if inherit_output else {0: "w", 1: "r", 2: "r"}
        files |= dict(enumerate(descriptors, 3))
        reactor.spawnProcess(daemon, argv[0], list(argv), env=dict(environment), path=None, childFDs=files)
        return daemon

    @property
    def pid(self) -> int | None:
        """Return the process id while the program runs."""
        return self.transport.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the program has ended."""
        if self.status is None and self.transport.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.transport.pid, number)

    async def ended(self) -> int:
        """Wait for the end. Return the exit status, -N if signal N ended the program."""
        if self.status is None:
            waiting: Deferred[int] = Deferred()
            self._waiting.append(waiting)
            await waiting
        assert self.status is not None  # noqa: S101 - for the type checker
        return self.status

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: ARG002, N803 - Twisted's names
        self.output += data

    def processExited(self, reason: Failure) -> None:  # noqa: ARG002 - Twisted's name
        # A child of the daemon may outlive a kill -9 and hold these pipes: it is not waited for. What the daemon wrote
        # before its end is in them, also where this process was too busy to read it.
        for pipe in list(self.transport.pipes.values()):
            self._read_all(pipe)
        self.transport.loseConnection()

    def _read_all(self, pipe: ProcessReader | ProcessWriter) -> None:
        """Read what a pipe holds, and no more where somebody goes on writing."""
        if isinstance(pipe, ProcessReader):
            for _ in range(_READS):
                pipe.doRead()

    def processEnded(self, reason: Failure) -> None:
        ended = reason.value
        self.status = (-ended.signal if ended.signal else ended.exitCode) if isinstance(ended, ProcessTerminated) else 0
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self.status)
