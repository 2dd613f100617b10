"""One branch moved by git's own protocol for loose refs, without git: a lock, the old value, the new one.

A ref is a file with an object id. Whoever changes it makes ``<ref>.lock`` first, which only one can, looks whether
the ref is still what it is changed from, writes the new value into the lock, and renames the lock to the ref. git does
just this, and by itself makes neither of them durable before the rest of the disk. A lock that a crash leaves is
cleared away like one of a git that was killed.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from stackit import RefChange, ref_bytes

# A repository with a word like this in its settings wants more done than is done here.
_MORE = re.compile(rb"refstorage|sharedrepository|logallrefupdates|fsync|include", re.IGNORECASE)


def move(directory: Path, change: RefChange) -> bool:
    """Move an existing ref to a commit that is there; False where it takes git, and nothing was done.

    That is so for a ref without a file of its own, one that is not where it is to be moved from, or is locked,
    and for repositories that somebody has given settings for how refs are written.
    """
    if change.kind != "updated":
        return False
    ref = directory / os.fsdecode(ref_bytes(change.ref))
    lock = ref.with_name(f"{ref.name}.lock")
    try:
        if _MORE.search((directory / "config").read_bytes()) or (directory / "logs").exists():
            return False
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            if not ref.is_symlink() and ref.read_bytes() == _line(change.old):
                file.write(_line(change.new))
                file.close()
                lock.rename(ref)
                return True
    except OSError:
        pass  # whatever it is, git says it in words
    with contextlib.suppress(OSError):
        lock.unlink()
    return False


def _line(oid: str) -> bytes:
    return oid.encode("ascii") + b"\n"
