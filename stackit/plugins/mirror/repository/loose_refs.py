"""Move one loose ref by git's own locking protocol, without a git process.

A loose ref is a file with an object id. To change it, git creates ``<ref>.lock`` exclusively, compares the ref with its
expected old value, writes the new value into the lock, and renames the lock to the ref. This module does the same.
Neither syncs the file by default. A lock that a crash leaves is removed like that of a killed git.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from stackit import RefChange, ref_bytes

# Settings by which writing a ref takes more than is done here.
_UNSUPPORTED = re.compile(rb"refstorage|sharedrepository|logallrefupdates|fsync|include", re.IGNORECASE)


def move(directory: Path, change: RefChange) -> bool:
    """Move a ref to a commit that is in the repository. Return False, with nothing done, if it takes git.

    It takes git for a ref without a file of its own, a ref that differs from ``change.old`` or is locked, and for a
    repository with settings about how refs are written.
    """
    if change.kind != "updated":
        return False
    ref = directory / os.fsdecode(ref_bytes(change.ref))
    lock = ref.with_name(f"{ref.name}.lock")
    try:
        if _UNSUPPORTED.search((directory / "config").read_bytes()) or (directory / "logs").exists():
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
        pass  # git, which is tried next, reports the error
    with contextlib.suppress(OSError):
        lock.unlink()
    return False


def _line(oid: str) -> bytes:
    return oid.encode("ascii") + b"\n"
