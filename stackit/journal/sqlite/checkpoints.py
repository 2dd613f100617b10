"""Bringing the write-ahead log into the journal's file, and what it means that this does not work."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from stackit.journal.sqlite.schema import LOG_BOUND, LOG_WORTH_A_LINE

READ = "somebody reads an old state of it (another process, such as a backup that hangs)"
UNDER_WAY = "another checkpoint is under way"


def checkpoint(connection: sqlite3.Connection) -> str | None:
    """Bring the log into the journal's file as far as nobody is in the way; waits for no lock.

    Returns why not all of it could be. Nothing is lost then: it stays in the log.
    """
    try:
        busy, frames, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except (sqlite3.Error, MemoryError) as problem:
        return str(problem) or "there is no memory"
    if busy:
        return UNDER_WAY
    return READ if done < frames else None


def checkpoint_now(connection: sqlite3.Connection) -> str | None:
    """The same, but waiting for a checkpoint that is under way: up to a second."""
    for _ in range(20):
        reason = checkpoint(connection)
        if reason != UNDER_WAY:
            break
        time.sleep(0.05)
    return reason


def behind(path: Path, reason: str, size: int) -> str | None:
    """What to tell people of a log of ``size`` bytes that could not be brought in; None where that is no news yet.

    Under load somebody may be in the way for a moment.
    """
    if reason == READ and size <= LOG_WORTH_A_LINE:
        return None
    return (
        f"the journal's log has {size >> 20} MiB and cannot be brought into {path}: {reason}; "
        f"beyond {LOG_BOUND >> 20} MiB no delivery is taken"
    )
