"""A disk that is slow, or fails, below SQLite: the sync of the write-ahead log, as SQLite itself asks for it."""

from __future__ import annotations

import _sqlite3
import ctypes
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred

from stackit.journal.sqlite import SQLiteJournal

_JOURNAL_POINTER = 28  # SQLITE_FCNTL_JOURNAL_POINTER: the open file of the log, https://www.sqlite.org/c3ref/c_fcntl_begin_atomic_write.html
_IOERR_FSYNC = 10 | (4 << 8)
_OK = 0
_SYNC = 5  # the place of xSync among the pointers of sqlite3_io_methods, behind its version
_METHODS = 19

_Sync = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_Methods = ctypes.c_void_p * _METHODS


class Disk:
    """The disk below the log of a journal: as it is, until ``hold`` or ``fail_once``."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(_sqlite3.__file__)
        self._may_go_on = Event()
        self._may_go_on.set()
        self._kept: list[Any] = []  # what C holds pointers to
        self.waits: Deferred[None] = Deferred()

    def hold(self, journal: SQLiteJournal) -> None:
        """From now on the next sync waits for ``go_on``, and calls ``waits`` as it begins to."""
        self._may_go_on.clear()
        original = self._replace(journal, self._held)
        self._original = _Sync(original)

    def go_on(self) -> None:
        """Let the disk take what waits."""
        self._may_go_on.set()

    def fail_once(self, journal: SQLiteJournal) -> None:
        """Have the next sync fail, and every one of the same connection."""
        self._replace(journal, lambda _file, _flags: _IOERR_FSYNC)

    def _held(self, file: int, flags: int) -> int:
        from twisted.internet import reactor  # noqa: PLC0415 - importing it installs it

        if not self._may_go_on.is_set():
            reactor.callFromThread(self.waits.callback, None)
            if not self._may_go_on.wait(20):
                return _IOERR_FSYNC
        return int(self._original(file, flags))

    def _replace(self, journal: SQLiteJournal, sync: Any) -> int:
        """Put ``sync`` in the place of xSync for the log of the writer's connection; return the address of that."""
        connection = journal._writer._committer.connection
        assert connection is not None
        # The first field of a Connection, behind what every object of Python begins with, is its sqlite3*.
        database = ctypes.c_void_p.from_address(id(connection) + object.__basicsize__)
        file = ctypes.c_void_p()
        assert self._library.sqlite3_file_control(database, b"main", _JOURNAL_POINTER, ctypes.byref(file)) == _OK
        place = ctypes.c_void_p.from_address(file.value or 0)
        methods = _Methods.from_address(place.value or 0)
        copy = _Methods(*methods)
        original = copy[_SYNC]
        callback = _Sync(sync)
        copy[_SYNC] = ctypes.cast(callback, ctypes.c_void_p).value
        self._kept += [copy, callback]
        place.value = ctypes.addressof(copy)
        return original or 0
