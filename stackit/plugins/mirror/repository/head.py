"""Choose the ref that a mirror's HEAD names, so that a clone of the mirror checks out a branch."""

from __future__ import annotations

from collections.abc import Iterator

from stackit import ref_text
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.refspecs import destination
from stackit.plugins.mirror.refs.snapshot import Snapshot

_BRANCHES = b"refs/heads/"
_USUAL = (b"refs/heads/main", b"refs/heads/master")


def choose_head(refspecs: tuple[str, ...], listing: Listing, refs: Snapshot, current: str | None) -> str | None:
    """Return the ref that HEAD should name, or None if the mirror has no branch.

    ``refs`` are all refs of the mirror, ``current`` is the target of its HEAD. The remote's default branch comes
    first. If the remote's HEAD is detached, it is the branch at that commit, as git guesses it. If the mirror does not
    have that branch: ``current``, or else the branch that is most likely the main one.
    """
    named = () if listing.head is None else (listing.head,)
    for source in (*named, *_at_detached_head(listing, refspecs, current)):
        ref = _mapped(refspecs, source, refs)
        if ref is not None:
            return ref
    if current is not None and refs.get(current) is not None:
        return current
    mapped = (_mapped(refspecs, source, refs) for source in _likely(listing))
    return next((ref for ref in mapped if ref is not None), None)


def _at_detached_head(listing: Listing, refspecs: tuple[str, ...], current: str | None) -> list[bytes]:
    """Return the branches at the commit of a detached HEAD, the most likely first."""
    if listing.head is not None or listing.tip is None:
        return []
    found = [name for name, oid in listing.refs.items() if oid == listing.tip and name.startswith(_BRANCHES)]
    return sorted(found, key=lambda name: (destination(refspecs, ref_text(name)) != current, *_rank(name)))


def _likely(listing: Listing) -> Iterator[bytes]:
    yield from (name for name in _USUAL if name in listing.refs)
    yield from sorted(name for name in listing.refs if name.startswith(_BRANCHES))


def _rank(name: bytes) -> tuple[int, bytes]:
    return (_USUAL.index(name) if name in _USUAL else len(_USUAL), name)


def _mapped(refspecs: tuple[str, ...], source: bytes, refs: Snapshot) -> str | None:
    ref = destination(refspecs, ref_text(source))
    return ref if ref is not None and refs.get(ref) is not None else None
