"""The small repairs of a mirror: what a killed git, a power cut or a strange hand left is taken out of the way.

None loses anything: what a fetch needs and does not find, it brings.
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
"""Seconds for which a person's git may hold a lock."""


def repair(mirror: Path, said: str, began: float) -> list[tuple[str, int]]:
    """Repair what can be seen without reading every object; returns what was done, and how many times.

    ``said`` is what git complained of at a time from which nothing of ours runs; ``began`` is the epoch time
    at which it was started. Raises OSError.
    """
    if not mirror.is_dir():
        return []
    steps = [
        # First of all, as without it the others see nothing.
        ("permissions set right", make_readable(mirror)),
        ("HEAD written anew", _head(mirror)),
        ("empty files removed, as a power cut leaves them", _removed(_empty(mirror))),
        ("broken refs removed", _removed(_broken_refs(mirror))),
    ]
    if ".lock': File exists" in said:
        # Where somebody is working in the mirror by hand this moment, only what is old is nobody's.
        age = LOCK_AGE if is_in_use(mirror) else 0
        steps.append(("leftovers of a git that was killed removed", remove_leftovers(mirror, before=began - age)))
    indexes = [index for index in ("commit-graph", "multi-pack-index") if index in said]
    steps += [(f"broken {index} removed", _without(mirror, index)) for index in indexes]
    return [(reason, count) for reason, count in steps if count]


def make_readable(mirror: Path) -> int:
    """Let the owner, where that is this user, read all files and change all folders; returns how many needed it."""
    changed = 0
    folders = [mirror]
    while folders:
        folder = folders.pop()
        changed += _allow(folder, stat.S_IRWXU)
        with contextlib.suppress(PermissionError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                else:
                    changed += _allow(Path(entry.path), stat.S_IRUSR)
    return changed


def _allow(path: Path, wanted: int) -> int:
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        missing = wanted & ~status.st_mode
        if missing and status.st_uid == os.geteuid() and not stat.S_ISLNK(status.st_mode):
            path.chmod(stat.S_IMODE(status.st_mode) | wanted)
            return 1
    return 0


def _head(mirror: Path) -> int:
    """Without a HEAD that makes sense, git sees no repository; the next look lets it name the right branch."""
    head = mirror / "HEAD"
    if not (mirror / "objects").is_dir() or (head.is_file() and _REF.fullmatch(head.read_bytes())):
        return 0
    head.write_bytes(b"ref: refs/heads/main\n")
    (mirror / "refs").mkdir(exist_ok=True)
    return 1


def _empty(mirror: Path) -> Iterator[Path]:
    for path in (*(mirror / "refs").rglob("*"), *(mirror / "objects").glob("[0-9a-f][0-9a-f]/*")):
        if path.is_file() and path.stat().st_size == 0 and path.suffix != ".lock":
            yield path


def _broken_refs(mirror: Path) -> Iterator[Path]:
    for path in (mirror / "refs").rglob("*"):
        if path.is_file() and path.suffix != ".lock" and not _REF.fullmatch(path.read_bytes()):
            yield path


def _removed(paths: Iterator[Path]) -> int:
    removed = 0
    for path in list(paths):
        path.unlink(missing_ok=True)
        removed += 1
    return removed


def _without(mirror: Path, index: str) -> int:
    """git can do without it, and makes a new one in time."""
    found = [*(mirror / "objects").glob(f"*/{index}"), *(mirror / "objects").glob(f"*/{index}s")]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(found)
