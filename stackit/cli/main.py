"""The program ``stackit``: one command of the shell, on a reactor of its own, and the signals that end it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from threading import Timer
from types import FrameType
from typing import Any, TextIO

from twisted.internet import task
from twisted.internet.defer import Deferred

from stackit.api.reactor import Reactor
from stackit.cli.output import OutputError, open_streams, silence
from stackit.cli.run import run, tell

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PATIENCE = 3.0
"""Seconds that a command may block the reactor after a signal."""


def main() -> None:
    """Run the command that the command line names, and exit with its status."""
    out, err = open_streams()
    task.react(_main, [sys.argv[1:], out, err])


async def _main(reactor: Reactor, arguments: Sequence[str], out: TextIO, err: TextIO) -> None:
    try:
        cwd = Path.cwd()
    except FileNotFoundError:
        err.write("stackit: the current directory does not exist any more: change to one that does\n")
        raise SystemExit(2) from None
    ending = _Ending(reactor)
    try:
        try:
            running = run(reactor, arguments, environ=os.environ, cwd=cwd, out=out, err=err, ready=ending.take_signals)
            status = await ending.watch(running)
        finally:
            out.flush()
    except OutputError as problem:
        status = tell(problem, err)
    raise SystemExit(ending.status or status)


class _Ending:
    """Ends a command at a signal, in silence; ``status`` is the exit status then.

    The command is cancelled, so that it can clean up. One that blocks the reactor is ended after a few seconds, and any
    at once by a second signal.
    """

    def __init__(self, reactor: Reactor) -> None:
        self.status = 0
        self._reactor = reactor
        self._command: Deferred[int] = Deferred()

    def watch(self, command: Coroutine[Any, Any, int]) -> Deferred[int]:
        """Start the command that a signal ends."""
        self._command = Deferred.fromCoroutine(command)
        return self._command

    async def take_signals(self) -> None:
        """Have the signals cancel the command from now on. Until then, the default of each holds."""
        running: Deferred[None] = Deferred()
        self._reactor.callWhenRunning(running.callback, None)
        await running  # the reactor installs handlers of its own as it starts to run
        for each in _ENDING:
            if signal.getsignal(each) is not signal.SIG_IGN:  # a shell may have it ignored in the background
                signal.signal(each, self._end)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self.status:
            os._exit(self.status)
        self.status = 128 + number
        silence()
        last = Timer(_PATIENCE, os._exit, [self.status])
        last.daemon = True
        last.start()
        self._reactor.callFromThread(self._cancel, last)

    def _cancel(self, last: Timer) -> None:
        last.cancel()
        self._command.cancel()
