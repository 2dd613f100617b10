"""The refs of a mirror at one moment, and exactly how two moments differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from stackit import RefChange
from stackit.plugins.mirror.git.runner import Git, GitError
from stackit.plugins.mirror.repository.ancestry import forward
from stackit.plugins.mirror.repository.refspecs import KEPT

ZERO = "0" * 40
ASIDE = 256
"""Refs that moved since the list was made, before a new one is made: each has to be copied with each move."""


class Snapshot:
    """All refs of a repository at one moment, kept as git lists them: 60 bytes a ref, quick to compare.

    Moving a ref copies nothing: what moved lies beside the list, which the next snapshots share, until it is
    worth a new one. To find a ref takes the steps of a search in a sorted list.
    """

    def __init__(self, listing: bytes = b"", aside: Mapping[bytes, bytes] = MappingProxyType({})) -> None:
        """``listing`` has a line for each ref, sorted; what is ``aside`` (object id by ref) counts instead of it."""
        self._listing = listing
        self._aside = aside

    @classmethod
    async def take(cls, git: Git, directory: Path, only: Sequence[str] = ()) -> Snapshot:
        """All refs, or ``only`` these. Raises GitError where the repository cannot be read."""
        # Sorted by name, so that equal refs are equal bytes.
        listed = await git.local(
            directory, "for-each-ref", "--format=%(refname) %(objectname)", "--", *map(ref_bytes, only)
        )
        if b"broken ref" in listed.stderr:
            # git leaves it out and is content; but it was not deleted, and nobody must be told so.
            raise GitError("the mirror has a broken ref", stderr=listed.stderr.decode("utf-8", "replace"))
        if only:  # git also lists what lies below a ref that is a folder
            wanted = {ref_bytes(ref) for ref in only}
            return cls(b"".join(each for each in listed.stdout.splitlines(keepends=True) if each.split()[0] in wanted))
        if KEPT not in listed.stdout:
            return cls(listed.stdout)
        return cls(b"".join(line for line in listed.stdout.splitlines(keepends=True) if not line.startswith(KEPT)))

    @classmethod
    def of(cls, refs: Mapping[bytes, str]) -> Snapshot:
        """The snapshot that has exactly these refs."""
        return cls(b"".join(b"%b %b\n" % (ref, oid.encode()) for ref, oid in sorted(refs.items())))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Snapshot):
            return False
        return self is other or self._whole() == other._whole()

    def __hash__(self) -> int:
        return hash(self._whole())

    def __bool__(self) -> bool:
        return bool(self._listing or self._aside)

    def get(self, ref: str) -> str | None:
        """The object id of a ref, None where it does not exist."""
        name = ref_bytes(ref)
        oid = self._aside.get(name)
        if oid is None:
            start, end = _line_of(self._listing, name)
            if start == end:
                return None
            oid = self._listing[start + len(name) + 1 : end - 1]
        return oid.decode("ascii")

    def some(self, most: int) -> list[str]:
        """The object ids of the first few refs."""
        lines = [line.split(b" ") for line in self._listing[: most * 256].splitlines(keepends=True)[:most]]
        found = [self._aside.get(line[0], line[1].rstrip()) for line in lines if len(line) == 2 and b"\n" in line[1]]
        found += self._aside.values()
        return [oid.decode("ascii") for oid in found[:most]]

    def moved(self, changes: Iterable[RefChange]) -> Snapshot:
        """The refs after these were created or updated: what ``take`` would find then."""
        aside = {**self._aside, **{ref_bytes(change.ref): change.new.encode("ascii") for change in changes}}
        after = Snapshot(self._listing, aside)
        return after if len(aside) <= ASIDE else Snapshot(after._whole())

    def as_dict(self) -> dict[str, str]:
        """Ref to object id."""
        pairs = (line.rpartition(b" ") for line in self._whole().splitlines())
        return {ref.decode("utf-8", "surrogateescape"): oid.decode("ascii") for ref, _, oid in pairs}

    def _whole(self) -> bytes:
        """The list with what lies aside put in."""
        pieces, at = [], 0
        for name in sorted(self._aside):
            start, end = _line_of(self._listing, name)
            pieces += [self._listing[at:start], b"%b %b\n" % (name, self._aside[name])]
            at = end
        return b"".join([*pieces, self._listing[at:]]) if pieces else self._listing


def _line_of(listing: bytes, name: bytes) -> tuple[int, int]:
    """Where the line of a ref begins and ends; where it would be, twice, if it is not there."""
    low, high = 0, len(listing)
    while low < high:
        start = max(low, listing.rfind(b"\n", low, (low + high) // 2) + 1)
        end = listing.index(b"\n", start) + 1
        found = listing[start : listing.rindex(b" ", start, end)]
        if found == name:
            return start, end
        if found < name:
            low = end
        else:
            high = start
    return low, low


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


def ref_text(ref: bytes) -> str:
    """A ref as plugins see it."""
    return ref.decode("utf-8", "surrogateescape")


def ref_bytes(ref: str) -> bytes:
    """A ref as git has it."""
    return ref.encode("utf-8", "surrogateescape")
