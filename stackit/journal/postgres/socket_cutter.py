"""The end of a wait for a server that says nothing: the socket is shut down under the thread that waits."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Timer
from typing import Any

import psycopg


class SocketCutter:
    """The socket of a thread's connection, for other threads. ``cut`` fails whatever the connection waits for."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._socket: socket.socket | None = None

    def watch(self, connection: psycopg.Connection[Any] | None) -> None:
        """Cut this connection from now on; None where there is none any more. In its thread.

        Where no descriptor is left, it is used and cannot be cut.
        """
        own = None
        if connection is not None:
            with suppress(OSError):
                own = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            before, self._socket = self._socket, own
        if before is not None:
            before.close()

    def cut(self) -> None:
        """Shut the connection down. From any thread."""
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):  # the server has closed it
                    self._socket.shutdown(socket.SHUT_RDWR)


@contextmanager
def answers_within(connection: psycopg.Connection[Any], seconds: float) -> Iterator[None]:
    """Cut a connection that takes longer for what is asked inside. Raises TimeoutError then."""
    cutter = SocketCutter()
    is_late = False

    def cut() -> None:
        nonlocal is_late
        is_late = True
        cutter.cut()

    timer = Timer(seconds, cut)
    timer.daemon = True
    cutter.watch(connection)
    timer.start()
    try:
        yield
    except psycopg.Error:
        if is_late:
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()
        timer.join()
        cutter.watch(None)
