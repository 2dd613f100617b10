"""Which of many moves went forward: git is asked once for all of them, not once for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git

FAR = 1000
"""Commits to walk for one move before git is asked about it alone."""

Move = tuple[str, str]
"""The object ids before and after."""


async def is_ancestor(git: Git, directory: Path, old: str, new: str) -> bool:
    """Whether ``new`` contains ``old``; False also where one is not there, or no commit."""
    finished = await git.local(directory, "merge-base", "--is-ancestor", old, new, ok=(0, 1, 128))
    return finished.status == 0


async def fast_forwards(git: Git, directory: Path, moves: Iterable[Move]) -> set[Move]:
    """Those of the moves whose new commit contains the old one."""
    moves = set(moves)
    commits = await _commits(git, directory, {oid for move in moves for oid in move})
    moves = {(old, new) for old, new in moves if {old, new} <= commits}
    if not moves:
        return set()
    parents = await _parents(git, directory, moves) if len(moves) > 1 else {}
    found = set()
    for old, new in sorted(moves):
        verdict = _walk(parents, old, new)
        if verdict is None:
            verdict = await is_ancestor(git, directory, old, new)
        if verdict:
            found.add((old, new))
    return found


async def _commits(git: Git, directory: Path, oids: set[str]) -> set[str]:
    """Those of the objects that are here, and commits."""
    if not oids:
        return set()
    asked = "".join(f"{oid}\n" for oid in sorted(oids)).encode()
    listed = await git.local(directory, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
    return {line[: -len(b" commit")].decode() for line in listed.stdout.splitlines() if line.endswith(b" commit")}


async def _parents(git: Git, directory: Path, moves: set[Move]) -> dict[str, list[str]]:
    """The commits that are in some new history and in no old one, with their parents."""
    asked = "".join(f"{new}\n^{old}\n" for old, new in sorted(moves)).encode()
    try:
        listed = await git.local(directory, "rev-list", "--parents", "--stdin", stdin=asked)
    except GitError:
        return {}  # too many to read: they are asked about one by one
    lines = (line.split() for line in listed.stdout.decode("ascii").splitlines())
    return {commit: parents for commit, *parents in lines}


def _walk(parents: Mapping[str, list[str]], old: str, new: str) -> bool | None:
    """Whether ``old`` lies behind ``new``; None where the walk is too far, or ends in another's old history."""
    seen, ahead, elsewhere = {new}, [new], False
    while ahead and len(seen) < FAR:
        commit = ahead.pop()
        if commit not in parents:
            elsewhere = True
            continue
        for parent in parents[commit]:
            if parent == old:
                return True
            if parent not in seen:
                seen.add(parent)
                ahead.append(parent)
    return None if elsewhere or ahead else False
