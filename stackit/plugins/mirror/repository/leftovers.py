"""Remove lock files and temporary files that a killed git, or a crash, left in a mirror."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from stackit.plugins.mirror.repository.quarantine import quarantines

REPLACED = ".replaced"
"""The folder of mirrors that are to be deleted."""
SAFE_AGE = 60.0
"""Seconds after which a leftover from before this start belongs to no running process."""


def remove_leftovers(mirror: Path, *, since: float = 0, before: float = math.inf) -> int:
    """Remove lock files and unfinished objects last modified between two epoch times; return their number.

    The interval must not overlap with the run of a git of this process that is still at work in the mirror.
    """
    return _removed((*_locks(mirror), *_kept(mirror), *_objects(mirror)), since, before)


def remove_unfinished_objects(mirror: Path, *, since: float) -> int:
    """Remove temporary objects modified since an epoch time, the start of a fetch that is over; return their number."""
    return _removed(_objects(mirror), since, math.inf)


def is_in_use(mirror: Path) -> bool:
    """Return True if a process of this machine names the mirror in its command, environment or directory.

    True as well where there is no ``/proc`` to tell.
    """
    marks = (os.fsencode(mirror), os.fsencode(mirror.resolve()))
    processes = list(Path("/proc").glob("[0-9]*"))
    for process in processes:
        # Processes of other users cannot be read, and do not work in mirrors.
        with contextlib.suppress(OSError):
            said = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            said += os.fsencode((process / "cwd").readlink())
            if any(mark in said for mark in marks):
                return True
    return not processes


def remove_partial_clones(mirrors: Path) -> None:
    """Remove unfinished clones, and mirrors that a new clone has replaced."""
    for name in (".cloning", REPLACED):
        shutil.rmtree(mirrors / name, ignore_errors=True)


def mirrors_on_disk(mirrors: Path) -> dict[str, Path]:
    """Return the mirrors below a directory by ``Repo.path`` in lower case; names on disk may have capitals."""
    found = {}
    for owner in _folders(mirrors):
        for mirror in _folders(owner.path):
            if mirror.name.endswith(".git"):
                found[f"{owner.name}/{mirror.name.removesuffix('.git')}".lower()] = Path(mirror.path)
    return found


def _folders(directory: Path | str) -> list[os.DirEntry[str]]:
    # The first rounds of the mirrors in an unreadable folder report the error.
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        return [entry for entry in entries if entry.is_dir()]
    return []


def _removed(paths: Iterable[Path], since: float, before: float) -> int:
    removed = 0
    for path in paths:
        # Another process may remove its own file meanwhile.
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
    """Yield the ``.keep`` files of fetches: each protects a new pack until the refs have moved."""
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
