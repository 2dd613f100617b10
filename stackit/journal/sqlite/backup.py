"""A backup of a journal, beside the stackit that writes to it or without one, and its way back."""

from __future__ import annotations

import errno
import os
import pwd
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import msgspec

from stackit.api.errors import JournalError
from stackit.journal import directory as state_directory
from stackit.journal.sqlite.copying import Progress, copy, read
from stackit.journal.sqlite.schema import APPLICATION, NAME, VERSION, unfinished
from stackit.journal.sqlite.sizes import Sizes


class Contents(msgspec.Struct, frozen=True):
    """The contents of a backup: its bytes, its deliveries, and the handlings that are still to be done."""

    size: int
    deliveries: int
    pending: int


def back_up(directory: Path, target: Path, *, replace: bool, progress: Progress, sizes: Sizes = Sizes()) -> Contents:  # noqa: B008 - frozen
    """Copy the journal of a state directory to the file ``target``, mode 0600, as it is at this moment. Blocks.

    A running stackit goes on writing. Nothing of its journal is changed, and no lock is held that it waits for; but its
    log cannot be brought in meanwhile, so the copy is given up where the log becomes half as large as it may. An
    existing file is an error without ``replace``, and there as before until the copy is whole. Raises JournalError.
    """
    journal = directory / NAME
    _check_target(directory, target, replace=replace)
    with _explained(f"the journal {journal} cannot be copied to {target}"), _new_file(target) as new:
        with _opened(journal) as connection:
            _check_is_journal(connection, journal)
            connection.execute("BEGIN")  # from here on, and in all that is read, it is as it is now
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            log = _Log(journal.with_name(f"{NAME}-wal"), sizes.log // 2)

            def watched(done: int, total: int) -> None:
                log.check()
                progress(done, total)

            copy(connection, new, watched)
        contents = _contents(new)
        _check_target(directory, target, replace=replace)  # once more: a copy takes a while
        state_directory.make_durable(new, target)
    return contents


def restore(directory: Path, source: Path, *, replace: bool, progress: Progress) -> tuple[Contents, Path | None]:
    """Make a backup the journal of a state directory, which is made if it is missing. Blocks.

    Returns what it holds, and where the journal is now that was there before. One that is there is an error without
    ``replace``, one that a stackit holds in any case. Whatever happens in between, the next start does not begin with
    an empty journal. Raises JournalError.
    """
    _check_owner(directory)
    _check_is_file(source)
    _check_beside(source)
    state_directory.prepare(directory)
    lock = state_directory.DirectoryLock(directory)
    try:
        journal = directory / NAME
        if journal.exists() and not replace:
            raise JournalError(
                f"{journal} is there already: --force sets it aside, as {NAME}.replaced, and loses nothing of it"
            )
        with _explained(f"{source} cannot be restored to {journal}"):
            new = unfinished(journal)
            try:
                contents = _fetch(source, new, progress)
            except BaseException:
                if journal.exists() or not journal.with_name(f"{NAME}-wal").exists():
                    new.unlink(missing_ok=True)  # nothing was set aside, by an earlier attempt neither
                raise
            before = _set_aside(journal)
            state_directory.make_durable(new, journal)
    finally:
        lock.release()
    return contents, before


def _fetch(source: Path, new: Path, progress: Progress) -> Contents:
    """Copy a backup to ``new``, and have the disk take it."""
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with _opened(source, immutable=not source.with_name(f"{source.name}-wal").exists()) as connection:
        _check_is_journal(connection, source)
        copy(connection, new, progress)
    state_directory.sync_file(new)
    return _contents(new)


class _Log:
    """The write-ahead log of a journal that is being copied. ``most`` is the size that it may grow to."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = max(most, self._size())

    def check(self) -> None:
        """Raise JournalError where it has grown too large."""
        if self._size() > self._most:
            raise JournalError(
                f"more is written to the journal than can be copied: its log {self._path} has {self._size() >> 20} "
                "MiB. Nothing was changed: make the backup at a quieter time, or to a faster disk"
            )

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Raise JournalError that begins with ``what`` for an error of the disk or of SQLite."""
    try:
        yield
    except (OSError, sqlite3.Error) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        raise JournalError(f"{what}: {reason}") from None


@contextmanager
def _opened(path: Path, *, immutable: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a journal to read it; ``immutable`` means that nobody writes to it, and that it has no log."""
    status = path.stat()  # raises the reason why not, which SQLite does not tell
    if not stat.S_ISREG(status.st_mode):
        raise JournalError(f"{path} is no file")  # SQLite would wait for a pipe, for ever
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, "Permission denied: run this as the user that runs stackit")
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = read(path) if immutable else sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA busy_timeout = 10000")
        yield connection
    finally:
        connection.close()


@contextmanager
def _new_file(target: Path) -> Iterator[Path]:
    """Make an empty file beside ``target`` that nobody else may read, and remove it if it is there at the end."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".partial")  # mode 0600
    os.close(handle)
    new = Path(name)
    try:
        yield new
    finally:
        new.unlink(missing_ok=True)


def _check_target(directory: Path, target: Path, *, replace: bool) -> None:
    try:
        status = target.lstat()
    except FileNotFoundError:
        status = None
    except OSError as problem:
        raise JournalError(f"{target} cannot be written: {problem.strerror}") from None
    if target.parent.resolve() == directory.resolve():
        raise JournalError(f"{target} is in the state directory, with which it would be lost; choose another place")
    if status is not None and not stat.S_ISREG(status.st_mode):
        raise JournalError(f"{target} is there, and is no file; choose another name")
    if status is not None and not replace:
        raise JournalError(f"{target} is there already; choose another name, or replace it with --force")


def _check_owner(directory: Path) -> None:
    with suppress(FileNotFoundError):
        owner = directory.stat().st_uid
        if owner != os.geteuid():
            raise JournalError(
                f"state directory {directory} belongs to {_user(owner)}, who could not use what another user puts "
                f"there: run this as that user, for instance with sudo -u {_user(owner)}"
            )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"


def _check_is_file(source: Path) -> None:
    """Raise JournalError for what cannot be read as a file; a pipe would be waited for."""
    try:
        if not stat.S_ISREG(source.stat().st_mode):
            raise JournalError(f"{source} is no file")
    except OSError as problem:
        raise JournalError(f"{source} cannot be read: {problem.strerror}") from None


def _check_beside(source: Path) -> None:
    """Raise JournalError where another user has put a log of SQLite beside a backup: it would become part of it.

    In a directory such as /tmp, who cannot change the backup can do that.
    """
    owner = source.stat().st_uid
    for file, kind in product({source, source.resolve()}, ("wal", "shm", "journal")):  # SQLite follows a link
        beside = file.with_name(f"{file.name}-{kind}")
        with suppress(FileNotFoundError):
            if beside.lstat().st_uid != owner:
                raise JournalError(
                    f"{beside} belongs to another user than {source}, and would change what is restored: copy the "
                    "backup alone to a directory of your own, and restore it from there"
                )


def _check_is_journal(connection: sqlite3.Connection, path: Path) -> None:
    """Raise JournalError, or sqlite3.Error, unless this version of stackit can use the journal."""
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.DatabaseError as problem:
        if problem.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
            raise JournalError(f"{path} is no journal of stackit") from None
        raise
    if application != APPLICATION:
        raise JournalError(f"{path} is no journal of stackit")
    if version > VERSION:
        raise JournalError(f"{path} was written by a newer stackit (schema {version}, this one knows {VERSION})")


def _contents(path: Path) -> Contents:
    connection = read(path)
    try:
        (deliveries,) = connection.execute("SELECT count(*) FROM events WHERE kind = 'delivery'").fetchone()
        (pending,) = connection.execute("SELECT count(*) FROM handlings WHERE state = 'pending'").fetchone()
    finally:
        connection.close()
    return Contents(path.stat().st_size, deliveries, pending)


def _set_aside(journal: Path) -> Path | None:
    """Move a journal and its log to names of their own, and return that of the journal; None if there is none.

    Both names lead to the log until the journal has gone, so at no instant is there a journal without its log.
    """
    replaced = _unused(journal)
    log, shared = (journal.with_name(f"{NAME}-{kind}") for kind in ("wal", "shm"))
    is_linked = log.exists() and log.stat().st_nlink > 1  # a restore was broken off right here
    if log.exists() and (journal.exists() or not is_linked):
        os.link(log, replaced.with_name(f"{replaced.name}-wal"))
    if journal.exists():
        journal.rename(replaced)
    log.unlink(missing_ok=True)
    shared.unlink(missing_ok=True)
    return replaced if replaced.exists() else None


def _unused(journal: Path) -> Path:
    replaced, number = journal.with_name(f"{NAME}.replaced"), 1
    while replaced.exists() or replaced.with_name(f"{replaced.name}-wal").exists():
        number += 1
        replaced = journal.with_name(f"{NAME}.replaced-{number}")
    return replaced
