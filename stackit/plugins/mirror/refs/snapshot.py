"""The refs of a mirror at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from stackit import RefChange, ref_bytes, ref_text

MOST_ASIDE = 256
"""Refs that are kept aside from the list; every move copies them."""


class Snapshot:
    """All refs of a repository at one moment, as a sorted list in git's format: 60 bytes a ref, quick to compare.

    A snapshot with moved refs shares the list with the one before, and keeps the moved refs aside; after ``MOST_ASIDE``
    of them it has a new list. A lookup is a binary search.
    """

    def __init__(self, listing: bytes = b"", aside: Mapping[bytes, bytes] = MappingProxyType({})) -> None:
        """``listing`` has a line for each ref, sorted; a ref in ``aside`` (object id by ref) overrides its line."""
        self._listing = listing
        self._aside = aside

    @classmethod
    def from_refs(cls, refs: Mapping[bytes, str]) -> Snapshot:
        """Return the snapshot of exactly these refs (object id by ref)."""
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
        """Return the object id of a ref, or None if there is no such ref."""
        name = ref_bytes(ref)
        oid = self._aside.get(name)
        if oid is None:
            start, end = _line_of(self._listing, name)
            if start == end:
                return None
            oid = self._listing[start + len(name) + 1 : end - 1]
        return oid.decode("ascii")

    def some(self, most: int) -> list[str]:
        """Return the object ids of at most ``most`` refs."""
        lines = [line.split(b" ") for line in self._listing[: most * 256].splitlines(keepends=True)[:most]]
        found = [self._aside.get(line[0], line[1].rstrip()) for line in lines if len(line) == 2 and b"\n" in line[1]]
        found += self._aside.values()
        return [oid.decode("ascii") for oid in found[:most]]

    def page(self, after: bytes, most: int, text: bytes = b"") -> tuple[list[tuple[bytes, str]], int, bytes | None]:
        """Return at most ``most`` refs behind ``after`` in whose name is ``text``, each with its object id.

        With them the number of all refs, and the name of the last ref returned if there are more behind it.
        """
        listing = self._whole()
        _, at = _line_of(listing, after)
        found: list[tuple[bytes, str]] = []
        while at < len(listing):
            if text:  # the first line on which it is, perhaps in an object id
                hit = listing.find(text, at)
                if hit < 0:
                    break
                at = max(at, listing.rfind(b"\n", at, hit) + 1)
            end = listing.index(b"\n", at)
            name, _, oid = listing[at:end].rpartition(b" ")
            at = end + 1
            if text in name:
                if len(found) == most:
                    return found, listing.count(b"\n"), found[-1][0]
                found.append((name, oid.decode("ascii")))
        return found, listing.count(b"\n"), None

    def moved(self, changes: Iterable[RefChange]) -> Snapshot:
        """Return the snapshot after these refs were created or updated, as ``Repository.refs`` would read them then."""
        aside = {**self._aside, **{ref_bytes(change.ref): change.new.encode("ascii") for change in changes}}
        after = Snapshot(self._listing, aside)
        return after if len(aside) <= MOST_ASIDE else Snapshot(after._whole())

    def as_dict(self) -> dict[str, str]:
        """Return object id by ref."""
        pairs = (line.rpartition(b" ") for line in self._whole().splitlines())
        return {ref_text(ref): oid.decode("ascii") for ref, _, oid in pairs}

    def _whole(self) -> bytes:
        """Return the list with the refs that are aside put in."""
        pieces, at = [], 0
        for name in sorted(self._aside):
            start, end = _line_of(self._listing, name)
            pieces += [self._listing[at:start], b"%b %b\n" % (name, self._aside[name])]
            at = end
        return b"".join([*pieces, self._listing[at:]]) if pieces else self._listing


def _line_of(listing: bytes, name: bytes) -> tuple[int, int]:
    """Return the positions at which the line of a ref begins and ends; both are where it would be if it is missing."""
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
