"""Find out which moves of refs are fast-forwards, with one git for all of them in place of one for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git

WALK_LIMIT = 1000
"""Commits to visit for one move before git is asked about it alone."""

Move = tuple[str, str]
"""The object ids of a ref before and after."""


async def is_ancestor(git: Git, directory: Path, old: str, new: str) -> bool:
    """Return True if the history of ``new`` contains ``old``; False also if one is missing, or no commit."""
    finished = await git.local(directory, "merge-base", "--is-ancestor", old, new, ok=(0, 1, 128))
    return finished.status == 0


async def fast_forwards(git: Git, directory: Path, moves: Iterable[Move]) -> set[Move]:
    """Return the moves that are fast-forwards: from a commit to one that contains it. Raises GitError."""
    moves = set(moves)
    commits = await _commits(git, directory, {oid for move in moves for oid in move})
    moves = {(old, new) for old, new in moves if {old, new} <= commits}
    if not moves:
        return set()
    parents = await _parents(git, directory, moves) if len(moves) > 1 else {}
    found = set()
    for old, new in sorted(moves):
        forward = _walk(parents, old, new)
        if forward is None:
            forward = await is_ancestor(git, directory, old, new)
        if forward:
            found.add((old, new))
    return found


async def _commits(git: Git, directory: Path, oids: set[str]) -> set[str]:
    """Return those of the object ids whose objects are here, and commits."""
    if not oids:
        return set()
    asked = "".join(f"{oid}\n" for oid in sorted(oids)).encode()
    listed = await git.local(directory, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
    return {line[: -len(b" commit")].decode() for line in listed.stdout.splitlines() if line.endswith(b" commit")}


async def _parents(git: Git, directory: Path, moves: set[Move]) -> dict[str, list[str]]:
    """Return the parents of each commit that is in some new history and in no old one; empty if they are too many."""
    asked = "".join(f"{new}\n^{old}\n" for old, new in sorted(moves)).encode()
    try:
        listed = await git.local(directory, "rev-list", "--parents", "--stdin", stdin=asked)
    except GitError:
        return {}  # git is asked about one move after the other
    lines = (line.split() for line in listed.stdout.decode("ascii").splitlines())
    return {commit: parents for commit, *parents in lines}


def _walk(parents: Mapping[str, list[str]], old: str, new: str) -> bool | None:
    """Return True if ``old`` is an ancestor of ``new``, or None if the walk is too far or leaves ``parents``."""
    seen, to_visit, left_parents = {new}, [new], False
    while to_visit and len(seen) < WALK_LIMIT:
        commit = to_visit.pop()
        if commit not in parents:
            left_parents = True
            continue
        for parent in parents[commit]:
            if parent == old:
                return True
            if parent not in seen:
                seen.add(parent)
                to_visit.append(parent)
    return None if left_parents or to_visit else False
