"""A test that hangs: which it is, and where all that it began is."""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import threading
import time
from types import CoroutineType
from typing import Any

PATIENCE = 240.0
"""Seconds after which a test is told of: many more than any takes on a busy machine."""

_LOOK = 5.0


class HangWatch:
    """Tells of a test that takes long, on a file or the stderr that there is as it is made; the test goes on.

    Its thread is there from before the first test, so that none counts it among those that a test began.
    """

    def __init__(self, output: int | None = None, patience: float = PATIENCE, look: float = _LOOK) -> None:
        self._output = os.dup(sys.stderr.fileno() if output is None else output)
        self._running: tuple[str, float] | None = None
        self._patience = patience
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(look,), name="hang watch", daemon=True)
        self._thread.start()

    def begin(self, test: str) -> None:
        """Take note of the test that begins."""
        self._running = (test, time.monotonic())

    def end(self) -> None:
        """Take note that it has ended."""
        self._running = None

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()
        os.close(self._output)

    def _look(self, look: float) -> None:
        told = None
        while not self._over.wait(look):
            running = self._running
            if running is not None and running is not told and time.monotonic() - running[1] > self._patience:
                told = running
                self._tell(running[0])

    def _tell(self, test: str) -> None:
        lines = [f"\n{test} has not ended after {self._patience:g} s; its coroutines wait at", *waiting_at(), ""]
        os.write(self._output, "\n".join(lines).encode())
        faulthandler.dump_traceback(self._output)


def waiting_at() -> list[str]:
    """Return the file and the line at which each coroutine waits that is not at work.

    From any thread: a coroutine may go on and end meanwhile, and what an object says of its class may be an error.
    """
    found: list[Any] = [each for each in gc.get_objects() if type(each) is CoroutineType]
    frames = [frame for each in found if each.cr_suspended and (frame := each.cr_frame) is not None]
    return sorted(f"  {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" for frame in frames)
