"""Repair a mirror after a killed git, a power cut or a change by hand, without reading all objects.

No repair loses anything: the next fetch brings missing refs and objects.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from stackit.plugins.mirror.repository.leftovers import is_in_use, remove_leftovers

_REF = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64}|ref: refs/[^\n]+)\n?")

LOCK_AGE = 10.0
"""Seconds for which another process's git may hold a lock."""


def repair(mirror: Path, said: str, began: float) -> list[tuple[str, int]]:
    """Repair the mirror; return each kind of repair with the number of files. Raises OSError.

    ``said`` are the messages of a git that failed, ``began`` is the epoch time of its start. No git of this process may
    be at work in the mirror since.
    """
    if not mirror.is_dir():
        return []
    steps = [
        # First, because the others need to read files.
        ("permissions set right", make_readable(mirror)),
        ("HEAD written anew", _repair_head(mirror)),
        ("empty files removed, as a power cut leaves them", _unlink(_empty_files(mirror))),
        ("broken refs removed", _unlink(_broken_refs(mirror))),
    ]
    if ".lock': File exists" in said:
        # If another process works in the mirror, a young lock may be its own.
        age = LOCK_AGE if is_in_use(mirror) else 0
        steps.append(("leftovers of a git that was killed removed", remove_leftovers(mirror, before=began - age)))
    indexes = [index for index in ("commit-graph", "multi-pack-index") if index in said]
    steps += [(f"broken {index} removed", _remove_index(mirror, index)) for index in indexes]
    return [(reason, count) for reason, count in steps if count]


def make_readable(mirror: Path) -> int:
    """Let the owner read all files and write all folders, if that is this user; return the number of changed modes."""
    changed = 0
    folders = [mirror]
    while folders:
        folder = folders.pop()
        changed += _add_mode(folder, stat.S_IRWXU)
        with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                else:
                    changed += _add_mode(Path(entry.path), stat.S_IRUSR)
    return changed


def _add_mode(path: Path, wanted: int) -> int:
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        missing = wanted & ~status.st_mode
        if missing and status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode):
            path.chmod(stat.S_IMODE(status.st_mode) | wanted)
            return 1
    return 0


def _repair_head(mirror: Path) -> int:
    """Write a valid HEAD, without which git sees no repository. The next sync sets it to the right branch."""
    head = mirror / "HEAD"
    if not (mirror / "objects").is_dir() or (head.is_file() and _REF.fullmatch(head.read_bytes())):
        return 0
    head.write_bytes(b"ref: refs/heads/main\n")
    (mirror / "refs").mkdir(exist_ok=True)
    return 1


def _empty_files(mirror: Path) -> Iterator[Path]:
    for path in (*(mirror / "refs").rglob("*"), *(mirror / "objects").glob("[0-9a-f][0-9a-f]/*")):
        if path.is_file() and path.stat().st_size == 0 and path.suffix != ".lock":
            yield path


def _broken_refs(mirror: Path) -> Iterator[Path]:
    for path in (mirror / "refs").rglob("*"):
        if path.is_file() and path.suffix != ".lock" and not _REF.fullmatch(path.read_bytes()):
            yield path


def _unlink(paths: Iterator[Path]) -> int:
    removed = 0
    for path in list(paths):
        path.unlink(missing_ok=True)
        removed += 1
    return removed


def _remove_index(mirror: Path, index: str) -> int:
    """Remove an index of objects, which git does not need; it writes a new one in time."""
    found = [*(mirror / "objects").glob(f"*/{index}"), *(mirror / "objects").glob(f"*/{index}s")]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(found)
