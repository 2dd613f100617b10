"""Waits for a file to appear, without looking again and again: who looks takes the core from what is measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.inotify import IN_CREATE, IN_MOVED_TO, INotify
from twisted.python.filepath import FilePath


class Appearing:
    """Sees files being made in a folder, or renamed into it."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        self._waiting: dict[str, Deferred[float]] = {}
        self._reactor = reactor
        self._inotify = INotify(reactor)
        self._inotify.startReading()
        self._inotify.watch(FilePath(str(folder)), mask=IN_CREATE | IN_MOVED_TO, callbacks=[self._seen])

    def next(self, name: str) -> Deferred[float]:
        """When the file is next made, in the reactor's seconds."""
        self._waiting[name] = Deferred()
        return self._waiting[name].addTimeout(60, self._reactor)

    def close(self) -> None:
        self._inotify.loseConnection()

    def _seen(self, _: object, path: FilePath[bytes], __: int) -> None:
        waiting = self._waiting.pop(os.fsdecode(path.basename()), None)
        if waiting is not None:
            waiting.callback(self._reactor.seconds())
