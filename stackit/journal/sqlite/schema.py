"""The tables of the journal, the check at start, and connections.

Avoids what SQLite 3.34 lacks (STRICT, RETURNING): Python 3.11 is shipped with it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from stackit.api.errors import JournalError
from stackit.journal import directory
from stackit.journal.sqlite.files import log_of
from stackit.journal.sqlite.sizes import Sizes

NAME = "journal.sqlite3"
"""The name of the journal's file in the state directory."""
VERSION = 3
"""The version of the tables, as SQLite's ``user_version``."""
APPLICATION = 0x73746B31
"""SQLite's ``application_id`` of a journal: "stk1". Journals from before the first release have none."""

_DOCUMENTS = """CREATE TABLE documents (
    collection TEXT, key TEXT, document BLOB NOT NULL, PRIMARY KEY (collection, key)
) WITHOUT ROWID"""

TABLES = (
    # One row for each delivery and each announcement of refs. Bodies lie apart, because an update writes its whole row
    # again.
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL CHECK (kind IN ('delivery', 'refs')),
        hook TEXT NOT NULL,
        delivery TEXT,
        event TEXT NOT NULL,
        action TEXT,
        repo TEXT,
        repo_key TEXT NOT NULL,
        received_at REAL NOT NULL,
        digest BLOB,
        size INTEGER NOT NULL,
        replay_of TEXT,
        visible_at REAL,
        signer TEXT NOT NULL DEFAULT '',
        via TEXT NOT NULL DEFAULT 'webhook'
    )""",
    "CREATE INDEX events_by_delivery ON events (delivery, hook) WHERE kind = 'delivery'",
    "CREATE TABLE bodies (event_id INTEGER PRIMARY KEY REFERENCES events (id), body BLOB NOT NULL)",
    # The bodies of several events, from one id to another: those that came in one commit.
    "CREATE TABLE bundles (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, bodies BLOB NOT NULL)",
    # Eight bytes of a digest find its event. Those of the newest events are not here yet: see digests.py.
    "CREATE TABLE digests (start BLOB, event_id INTEGER, PRIMARY KEY (start, event_id)) WITHOUT ROWID",
    """CREATE TABLE handlings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id INTEGER NOT NULL REFERENCES events (id),
        subscriber TEXT NOT NULL,
        repo_key TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'done', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0,
        error TEXT,
        next_at REAL,
        finished_at REAL,
        traceback BLOB,
        UNIQUE (event_id, subscriber)
    )""",
    # The pending handlings in the order of each repository, by time, and by event. A query uses a partial index only
    # where it repeats the index's own condition; with the state as a column of it, the index alone answers.
    """CREATE INDEX handlings_in_order ON handlings (subscriber, repo_key, id, next_at, state)
        WHERE state = 'pending'""",
    "CREATE INDEX handlings_by_time ON handlings (subscriber, next_at, state) WHERE state = 'pending'",
    "CREATE INDEX handlings_open ON handlings (event_id, state, subscriber) WHERE state <> 'done'",
    "CREATE TABLE refs (repo_key TEXT, ref BLOB, oid TEXT NOT NULL, PRIMARY KEY (repo_key, ref)) WITHOUT ROWID",
    _DOCUMENTS,
    # Written over and over to see whether the disk takes writes again.
    "CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 1), filler BLOB NOT NULL)",
)

_STEPS: Mapping[int, Sequence[str]] = MappingProxyType(
    {
        1: ("ALTER TABLE handlings ADD COLUMN traceback BLOB",),
        2: (
            "ALTER TABLE events ADD COLUMN signer TEXT NOT NULL DEFAULT ''",
            "ALTER TABLE events ADD COLUMN via TEXT NOT NULL DEFAULT 'webhook'",
            _DOCUMENTS,
        ),
    }
)
"""The statements that make a journal of each earlier version one of the version after it."""

# Bodies are left out of the check at start: reading up to a gigabyte of them would make every start slow.
_CHECKED = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('bodies', 'bundles')"

_SETTINGS = (
    "PRAGMA busy_timeout = 10000",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA temp_store = MEMORY",
)


class Connection(sqlite3.Connection):
    """A connection, with the digests of the newest events that digests.py remembers (None: not read yet)."""

    recent_digests: dict[bytes, int] | None = None
    sizes = Sizes()

    def undo(self) -> None:
        """Roll back the transaction, and forget the digests in memory."""
        self.execute("ROLLBACK")
        self.recent_digests = None


def prepare(path: Path) -> None:
    """Make a journal at ``path`` if there is none, or check the one that is there, and bring it up to date.

    Raises JournalError for one that is damaged, newer, or open to others, and changes nothing then; Unusable where the
    disk does not do what is asked of it.
    """
    log = log_of(path)
    if not path.exists():
        if unfinished(path).exists():
            raise JournalError(
                f"a restore of the journal {path} was broken off: run stackit restore again (a journal that was there "
                f"before is in {path.name}.replaced*)"
            )
        if log.exists():
            raise _damaged(path, f"{path.name} is missing beside its {log.name}")
        saved = sorted(path.parent.glob(f"{path.name}.saved*"))
        if saved:
            raise JournalError(
                f"the journal {path} was removed while stackit ran, and all of it is saved in {saved[-1]}: "
                f"move that to {path}, or out of {path.parent} to start with an empty journal"
            )
        create(path)
    for file in (path, log, path.with_name(f"{path.name}-shm")):
        if file.exists():
            directory.check_private(file)
    version = _check(path)
    if version < VERSION:
        _bring_up_to_date(path, version)


def unfinished(path: Path) -> Path:
    """Return the path of a journal that is being restored to ``path``; it stays where a restore is broken off."""
    return path.with_name(f"{path.name}.restoring")


def connect(path: Path, sizes: Sizes) -> Connection:
    """Return a new connection, which one thread at a time may use."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=128,
        factory=Connection,
    )
    try:
        for setting in (*_SETTINGS, f"PRAGMA journal_size_limit = {sizes.checkpoint}"):
            connection.execute(setting)
        connection.sizes = sizes
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def open_log(connection: sqlite3.Connection) -> None:
    """Have a connection open the log and keep its shared lock; SQLite does so as late as it can."""
    connection.execute("PRAGMA schema_version").fetchone()


def create(path: Path, fill: Callable[[Connection], object] | None = None) -> None:
    """Make an empty journal, or one that has what ``fill`` puts into its tables. Raises Unusable, or as ``fill`` does.

    It is made under another name first, so that a file of this name is always whole.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        _remove(new)
        try:
            os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            _fill(new, fill)
            directory.make_durable(new, path)
        except BaseException:
            with suppress(OSError):  # it was broken off, and leaves no file of the size of a journal behind
                _remove(new)
            raise
    except (OSError, sqlite3.Error) as problem:
        raise directory.Unusable(f"the journal {path} cannot be made: {problem}") from None


def _fill(new: Path, fill: Callable[[Connection], object] | None) -> None:
    connection = connect(new, Sizes())
    try:
        # The log comes last: of one that a full disk does not let into the file at the end, closing says nothing.
        _make_tables(connection)
        if fill is not None:
            connection.execute("BEGIN IMMEDIATE")
            fill(connection)
            connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    finally:
        connection.close()


def _remove(new: Path) -> None:
    """Remove an unfinished journal, with what SQLite has beside it."""
    for left in (new, *(new.with_name(f"{new.name}-{kind}") for kind in ("wal", "shm", "journal"))):
        left.unlink(missing_ok=True)


def _check(path: Path) -> int:
    """Return the version of the journal at ``path``. Raises JournalError unless it is sound, and not a newer one.

    Reads only: closing a connection that may write would fold the log into the damaged file.
    """
    connection = None
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION:
            raise _not_ours(path, connection)
        if version > VERSION:
            raise JournalError(
                f"the journal {path} was written by a newer stackit (schema {version}, this one knows {VERSION}): "
                f"run that one, or choose another state directory"
            )
        for (table,) in connection.execute(_CHECKED).fetchall():
            verdict = connection.execute(f"PRAGMA quick_check({table})").fetchone()[0]
            if verdict != "ok":
                raise _damaged(path, str(verdict).splitlines()[-1])
        return int(version)
    except sqlite3.DatabaseError as problem:
        if isinstance(problem, sqlite3.OperationalError) and not _is_damage(problem):
            raise directory.Unusable(f"the journal {path} cannot be opened: {problem}") from None
        raise _damaged(path, str(problem)) from None
    finally:
        if connection is not None:
            connection.close()


def _bring_up_to_date(path: Path, version: int) -> None:
    """Take the steps from ``version`` on, in one transaction. Raises Unusable where the disk does not do it."""
    try:
        connection = connect(path, Sizes())
        try:
            connection.execute("BEGIN IMMEDIATE")
            for earlier in range(version, VERSION):
                for statement in _STEPS[earlier]:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as problem:
        raise directory.Unusable(f"the journal {path} cannot be brought up to date: {problem}") from None


def _not_ours(path: Path, connection: sqlite3.Connection) -> JournalError:
    """Return the error for a file that does not call itself a journal of a released stackit."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if {"events", "handlings", "refs"} <= names:
        return JournalError(
            f"the journal {path} was written by a stackit from before its first release, and cannot be read; nothing "
            f"was changed: move {path.name}* out of {path.parent} to start with an empty one"
        )
    return _damaged(path, "it is no journal of stackit")


def _is_damage(problem: sqlite3.Error) -> bool:
    return problem.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _damaged(path: Path, reason: str) -> JournalError:
    return JournalError(
        f"the journal {path} is damaged ({reason}); nothing was changed: restore it from a copy, "
        f"or move {path.name}* out of {path.parent} to start with an empty one"
    )


def _make_tables(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement in TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
