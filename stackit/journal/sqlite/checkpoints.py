"""Checkpoints: the write-ahead log is copied into the journal's file, or a reason is given for people."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from stackit.journal.sqlite.sizes import Sizes

READ = "somebody reads an old state of it (another process, such as a backup that hangs)"
UNDER_WAY = "another checkpoint is under way"


def checkpoint(connection: sqlite3.Connection) -> str | None:
    """Copy the log into the journal's file as far as no reader is in the way. Waits for no lock.

    Returns None, or the reason why a part of it stays in the log, where it is safe.
    """
    try:
        busy, frames, done = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except (sqlite3.Error, MemoryError) as problem:
        return str(problem) or "there is no memory"
    if busy:
        return UNDER_WAY
    return READ if done < frames else None


def checkpoint_now(connection: sqlite3.Connection) -> str | None:
    """Do the same, but wait up to a second for a checkpoint that is under way."""
    for _ in range(20):
        reason = checkpoint(connection)
        if reason != UNDER_WAY:
            break
        time.sleep(0.05)
    return reason


def behind(path: Path, reason: str, size: int, sizes: Sizes) -> str | None:
    """Return a line for people about a log of ``size`` bytes that could not be copied in; None while it is small.

    Under load a reader may be in the way for a moment.
    """
    if reason == READ and size <= sizes.notice:
        return None
    return (
        f"the journal's log has {size >> 20} MiB and cannot be brought into {path}: {reason}; "
        f"beyond {sizes.log >> 20} MiB no delivery is taken"
    )
