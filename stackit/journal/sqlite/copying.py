"""A whole journal copied to another file, page by page."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

PAGES = 4096
"""Pages that are copied between two calls of ``progress``."""

Progress = Callable[[int, int], object]
"""Called with the pages that are copied and the pages that there are. What it raises ends the copy."""


def copy(connection: sqlite3.Connection, new: Path, progress: Progress) -> None:
    """Copy the database of a connection into the empty file ``new``, and check that it is whole.

    All of it is as it was at one moment: at the start if the connection is in a transaction. Raises sqlite3.Error.
    """
    target = sqlite3.connect(new, isolation_level=None)
    try:
        # Not durable: a copy that was broken off is thrown away, and the caller syncs one that is whole.
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        connection.backup(target, pages=PAGES, progress=lambda _status, left, total: progress(total - left, total))
    finally:
        target.close()
    check = read(new)
    try:
        verdict = check.execute("PRAGMA quick_check(1)").fetchone()[0]
    finally:
        check.close()
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"the copy is damaged: {verdict}")


def read(path: Path) -> sqlite3.Connection:
    """Return a connection to a file that nobody writes to, which leaves nothing beside it."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
