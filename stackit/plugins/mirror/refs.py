"""The refs of a mirror at one moment, and exactly how two moments differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stackit import RefChange
from stackit.plugins.mirror.git import Git, GitError

ZERO = "0" * 40


class Snapshot:
    """All refs of a repository at one moment, kept as git lists them: 60 bytes a ref, quick to compare."""

    def __init__(self, listing: bytes = b"") -> None:
        self._listing = b"\n" + listing

    @classmethod
    async def take(cls, git: Git, directory: Path) -> Snapshot:
        """Raises GitError where the repository cannot be read."""
        # Sorted by name, so that equal refs are equal bytes.
        listed = await git.local(directory, "for-each-ref", "--format=%(refname) %(objectname)")
        if b"broken ref" in listed.stderr:
            # git leaves it out and is content; but it was not deleted, and nobody must be told so.
            raise GitError("the mirror has a broken ref", stderr=listed.stderr.decode("utf-8", "replace"))
        return cls(listed.stdout)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self._listing == other._listing

    def __hash__(self) -> int:
        return hash(self._listing)

    def __bool__(self) -> bool:
        return len(self._listing) > 1

    def get(self, ref: str) -> str | None:
        """The object id of a ref, None where it does not exist."""
        start = self._listing.find(b"\n" + _bytes(ref) + b" ")
        if start < 0:
            return None
        end = self._listing.index(b"\n", start + 1)
        return self._listing[start + 1 : end].rpartition(b" ")[2].decode("ascii")

    def as_dict(self) -> dict[str, str]:
        """Ref to object id."""
        pairs = (line.rpartition(b" ") for line in self._listing.splitlines() if line)
        return {ref.decode("utf-8", "surrogateescape"): oid.decode("ascii") for ref, _, oid in pairs}


async def changes_between(
    git: Git, directory: Path, old: Mapping[str, str], new: Mapping[str, str]
) -> tuple[RefChange, ...]:
    """How to come from ``old`` to ``new``: deletions first, so that applying them in order never conflicts."""
    zero = "0" * len(next(iter((*new.values(), *old.values())), ZERO))
    deleted = [RefChange(ref, old[ref], zero, "deleted") for ref in sorted(old.keys() - new.keys())]
    created = [RefChange(ref, zero, new[ref], "created") for ref in sorted(new.keys() - old.keys())]
    moved = sorted(ref for ref in old.keys() & new.keys() if old[ref] != new[ref])
    commits = await _commits(git, directory, {oid for ref in moved for oid in (old[ref], new[ref])})
    updated = []
    for ref in moved:
        forward = {old[ref], new[ref]} <= commits and await is_ancestor(git, directory, old[ref], new[ref])
        updated.append(RefChange(ref, old[ref], new[ref], "updated", forced=not forward))
    return (*deleted, *updated, *created)


async def is_ancestor(git: Git, directory: Path, old: str, new: str) -> bool:
    """Whether ``new`` contains ``old``; False also where one is not there, or no commit."""
    finished = await git.local(directory, "merge-base", "--is-ancestor", old, new, ok=(0, 1, 128))
    return finished.status == 0


async def _commits(git: Git, directory: Path, oids: set[str]) -> set[str]:
    """Those of the objects that are here, and commits."""
    if not oids:
        return set()
    asked = "".join(f"{oid}\n" for oid in sorted(oids)).encode()
    listed = await git.local(directory, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
    return {line[: -len(b" commit")].decode() for line in listed.stdout.splitlines() if line.endswith(b" commit")}


def destination(refspecs: tuple[str, ...], ref: str) -> str | None:
    """Where a ref of the remote lands in the mirror; None where no refspec takes it."""
    landing = None
    for refspec in refspecs:
        if refspec.startswith("^"):
            if _matched(refspec[1:], ref) is not None:
                return None
            continue
        source, _, target = refspec.removeprefix("+").partition(":")
        middle = _matched(source, ref)
        if middle is not None and landing is None:
            landing = target.replace("*", middle, 1)
    return landing or None


def _matched(pattern: str, ref: str) -> str | None:
    """What the ``*`` of the pattern stands for in the ref ("" where there is none); None where it does not match."""
    head, star, tail = pattern.partition("*")
    if not star:
        return "" if ref == pattern else None
    if len(ref) >= len(head) + len(tail) and ref.startswith(head) and ref.endswith(tail):
        return ref[len(head) : len(ref) - len(tail)]
    return None


def _bytes(ref: str) -> bytes:
    return ref.encode("utf-8", "surrogateescape")
