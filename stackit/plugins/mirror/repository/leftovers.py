"""What a git that was killed leaves behind, and how it is cleared away."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from stackit.plugins.mirror.repository.quarantine import quarantines

SAFE_AGE = 60.0
"""Seconds after which a leftover from before this start belongs to nobody who is still alive."""


def leftovers(mirror: Path, *, since: float = 0, before: float = math.inf) -> int:
    """Remove lock files and unfinished objects last touched between two epoch times; returns how many.

    Only for times at which no git of ours that still runs was at work in this mirror.
    """
    return _removed((*_locks(mirror), *_kept(mirror), *_objects(mirror)), since, before)


def unfinished_objects(mirror: Path, *, since: float) -> int:
    """Remove what a fetch that began at an epoch time, and is over, did not finish; returns how many files."""
    return _removed(_objects(mirror), since, math.inf)


def nobody_works_in(mirror: Path) -> bool:
    """Whether no process of this machine is at work in the mirror, as far as its files tell (Linux only)."""
    marks = (os.fsencode(mirror), os.fsencode(mirror.resolve()))
    processes = list(Path("/proc").glob("[0-9]*"))
    for process in processes:
        # Those of other users cannot be looked at, and have no business here.
        with contextlib.suppress(OSError):
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            said += os.fsencode((process / "cwd").readlink())
            if any(mark in said for mark in marks):
                return False
    return bool(processes)


def half_clones(mirrors: Path) -> None:
    """Remove clones that did not come to their end, and mirrors that were replaced by one."""
    for name in (".cloning", ".replaced"):
        shutil.rmtree(mirrors / name, ignore_errors=True)


def found_mirrors(mirrors: Path) -> dict[str, Path]:
    """The mirrors that there are, by ``owner/name`` in lower case, however they are spelled on disk."""
    found = {}
    for owner in _folders(mirrors):
        for mirror in _folders(owner.path):
            if mirror.name.endswith(".git"):
                found[f"{owner.name}/{mirror.name.removesuffix('.git')}".lower()] = Path(mirror.path)
    return found


def _folders(directory: Path | str) -> list[os.DirEntry[str]]:
    # One that cannot be read is the trouble of the mirrors in it: their first rounds will say what it is.
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return [entry for entry in entries if entry.is_dir()]
    return []


def _removed(paths: Iterable[Path], since: float, before: float) -> int:
    removed = 0
    for path in paths:
        # It may be somebody else's, and go while we look.
        with contextlib.suppress(FileNotFoundError):
            if since <= path.stat().st_mtime < before:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
                removed += 1
    return removed


def _locks(mirror: Path) -> Iterator[Path]:
    yield from mirror.glob("*.lock")
    yield from (mirror / "refs").rglob("*.lock")
    yield from (mirror / "objects").glob("*.lock")
    yield from (mirror / "objects" / "info").rglob("*.lock")


def _kept(mirror: Path) -> Iterator[Path]:
    """Marks by which a fetch keeps its new pack until the refs have moved: with one left over, it is never repacked."""
    for mark in (mirror / "objects" / "pack").glob("pack-*.keep"):
        with contextlib.suppress(OSError):
            if mark.read_bytes().startswith(b"fetch-pack "):
                yield mark


def _objects(mirror: Path) -> Iterator[Path]:
    yield from quarantines(mirror)
    yield from (mirror / "objects").glob("tmp_obj_*")
    yield from (mirror / "objects" / "pack").glob("tmp_*")
    yield from (mirror / "objects" / "pack").glob(".tmp-*")
    yield from (mirror / "objects").glob("[0-9a-f][0-9a-f]/tmp_obj_*")
