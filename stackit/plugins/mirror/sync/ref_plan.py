"""The plan from the refs of a mirror to those of its remote, and names of refs that exclude each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

import msgspec

from stackit import ref_bytes
from stackit.plugins.mirror.refs.refspecs import is_destination
from stackit.plugins.mirror.refs.snapshot import Snapshot

LONGEST_PART = 250
"""Bytes of a part of a ref's name: a file's name has at most 255, and its lock's is longer by 5 (git-update-ref)."""
LONGEST_NAME = 2048
"""Bytes of a whole name: a path has at most 4,096, and the mirror's own place takes some."""

Objection = Callable[[Mapping[str, str], Mapping[str, str], Mapping[str, str]], str | None]
"""Called with the refs of the mirror, those to delete, and those of the remote; returns why not to delete them."""


class RefPlan(msgspec.Struct, frozen=True):
    """The refs to fetch and to delete. Refs are dicts of object id by name in the mirror.

    ``wanted`` are all refs that the remote has. ``deletions`` are deleted after the fetch. ``held`` is the objection
    to more deletions, None if there is none.
    """

    wanted: dict[str, str]
    deletions: dict[str, str]
    needs_fetch: bool
    held: str | None = None

    def blocking(self) -> dict[str, str]:
        """Return the deletions without which a wanted ref cannot be made.

        refs/heads/a/b cannot be made while refs/heads/a exists, not even in the same transaction.
        """
        return {ref: self.deletions[ref] for ref in blocking_refs(self.deletions, self.wanted)}

    def deletions_from(self, now: Snapshot) -> dict[str, str]:
        """Return the deletions that are left after the fetch: a ref that the fetch moved is not gone."""
        return {ref: oid for ref, oid in self.deletions.items() if now.get(ref) == oid}


def plan(refspecs: tuple[str, ...], have: Mapping[str, str], wanted: dict[str, str], objection: Objection) -> RefPlan:
    """Plan the way from the refs that the mirror has to the wanted ones.

    Refs that the configuration no longer asks for are deleted without a question.
    """
    gone = {ref: oid for ref, oid in have.items() if ref not in wanted}
    configured = {ref: oid for ref, oid in have.items() if is_destination(refspecs, ref)}
    held = objection(configured, {ref: oid for ref, oid in gone.items() if ref in configured}, wanted)
    if held is not None:
        gone = {ref: oid for ref, oid in gone.items() if ref not in configured}
    return RefPlan(wanted, gone, any(have.get(ref) != oid for ref, oid in wanted.items()), held)


def blocking_refs(gone: Iterable[str], wanted: Iterable[str]) -> set[str]:
    """Return the gone refs whose name is a folder of a wanted one, or that lie in a folder that is wanted as a ref."""
    gone, wanted = set(gone), set(wanted)
    found: set[str] = set()
    above: list[str] = []  # the refs that are folders of the current one
    for ref in _folders_first(gone | wanted):
        while above and not ref.startswith(f"{above[-1]}/"):
            above.pop()
        if ref in wanted:
            found.update(gone.intersection(above))
        elif not wanted.isdisjoint(above):
            found.add(ref)
        above.append(ref)
    return found


def fit_as_files(refs: Iterable[str]) -> bool:
    """Return True if each ref could be a file, as a fetch makes them, and git when a ref moves.

    None has the name of a folder that another is in, or one that is too long for a file system.
    """
    names = _folders_first(refs)
    return not (any(map(_is_too_long, names)) or any(ref.startswith(f"{before}/") for before, ref in pairwise(names)))


def _folders_first(refs: Iterable[str]) -> list[str]:
    """Sort refs so that those below a folder follow right after the ref of that name."""
    return sorted(refs, key=lambda ref: ref.replace("/", "\0"))


def _is_too_long(ref: str) -> bool:
    name = ref_bytes(ref)
    return len(name) > LONGEST_PART and (
        len(name) > LONGEST_NAME or max(len(part) for part in name.split(b"/")) > LONGEST_PART
    )
