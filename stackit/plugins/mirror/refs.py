"""The refs of a mirror at one moment, and exactly how two moments differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from stackit import RefChange
from stackit.plugins.mirror.ancestry import forward
from stackit.plugins.mirror.git import Git, GitError

ZERO = "0" * 40
KEPT = b"refs/stackit-kept/"
"""Where old tips are kept: the mirror's own, neither fetched nor announced."""


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
        if KEPT not in listed.stdout:
            return cls(listed.stdout)
        return cls(b"".join(line for line in listed.stdout.splitlines(keepends=True) if not line.startswith(KEPT)))

    @classmethod
    def of(cls, refs: Mapping[bytes, str]) -> Snapshot:
        """The snapshot that has exactly these refs."""
        return cls(b"".join(b"%b %b\n" % (ref, oid.encode()) for ref, oid in sorted(refs.items())))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self._listing == other._listing

    def __hash__(self) -> int:
        return hash(self._listing)

    def __bool__(self) -> bool:
        return len(self._listing) > 1

    def get(self, ref: str) -> str | None:
        """The object id of a ref, None where it does not exist."""
        start = self._listing.find(b"\n" + ref_bytes(ref) + b" ")
        if start < 0:
            return None
        end = self._listing.index(b"\n", start + 1)
        return self._listing[start + 1 : end].rpartition(b" ")[2].decode("ascii")

    def some(self, most: int) -> list[str]:
        """The object ids of the first few refs."""
        lines = self._listing[1 : 1 + most * 256].splitlines()[:most]
        return [line.rpartition(b" ")[2].decode("ascii") for line in lines if line.count(b" ") == 1]

    def moved(self, changes: Iterable[RefChange]) -> Snapshot:
        """The refs after these were created or updated: what ``take`` would find then."""
        listing = self._listing
        for change in changes:
            name = ref_bytes(change.ref)
            line = name + b" " + change.new.encode("ascii") + b"\n"
            start = listing.find(b"\n" + name + b" ")
            if start < 0:
                start = end = self._place(listing, name)
            else:
                start += 1
                end = listing.index(b"\n", start) + 1
            listing = listing[:start] + line + listing[end:]
        return Snapshot(listing[1:])

    @staticmethod
    def _place(listing: bytes, name: bytes) -> int:
        """Where the line of a new ref belongs: lines are sorted by name, byte by byte."""
        low, high = 1, len(listing)
        while low < high:
            middle = listing.rfind(b"\n", 0, (low + high) // 2 + 1) + 1
            middle = max(middle, low)
            end = listing.index(b"\n", middle) + 1
            if listing[middle:end].rpartition(b" ")[0] < name:
                low = end
            else:
                high = middle
        return low

    def as_dict(self) -> dict[str, str]:
        """Ref to object id."""
        pairs = (line.rpartition(b" ") for line in self._listing.splitlines() if line)
        return {ref.decode("utf-8", "surrogateescape"): oid.decode("ascii") for ref, _, oid in pairs}


async def changes_between(
    git: Git, directory: Path, old: Mapping[str, str], new: Mapping[str, str]
) -> tuple[RefChange, ...]:
    """How to come from ``old`` to ``new``: deletions first, so that applying them in order never conflicts."""
    zero = "0" * len(next(iter((*new.values(), *old.values())), ZERO))
    deleted = [RefChange(ref, old[ref], "0" * len(old[ref]), "deleted") for ref in sorted(old.keys() - new.keys())]
    created = [RefChange(ref, zero, new[ref], "created") for ref in sorted(new.keys() - old.keys())]
    moved = sorted(ref for ref in old.keys() & new.keys() if old[ref] != new[ref])
    ahead = await forward(git, directory, ((old[ref], new[ref]) for ref in moved))
    updated = [RefChange(ref, old[ref], new[ref], "updated", forced=(old[ref], new[ref]) not in ahead) for ref in moved]
    return (*deleted, *updated, *created)


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


def ref_text(ref: bytes) -> str:
    """A ref as plugins see it."""
    return ref.decode("utf-8", "surrogateescape")


def ref_bytes(ref: str) -> bytes:
    """A ref as git has it."""
    return ref.encode("utf-8", "surrogateescape")
