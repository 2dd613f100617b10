"""The refs of a mirror at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from stackit import RefChange, ref_bytes, ref_text

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
    def from_refs(cls, refs: Mapping[bytes, str]) -> Snapshot:
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
        """The refs after these were created or updated: as ``Repository.refs`` would read them then."""
        aside = {**self._aside, **{ref_bytes(change.ref): change.new.encode("ascii") for change in changes}}
        after = Snapshot(self._listing, aside)
        return after if len(aside) <= ASIDE else Snapshot(after._whole())

    def as_dict(self) -> dict[str, str]:
        """Ref to object id."""
        pairs = (line.rpartition(b" ") for line in self._whole().splitlines())
        return {ref_text(ref): oid.decode("ascii") for ref, _, oid in pairs}

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
