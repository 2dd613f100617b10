"""Map refs of a remote to refs of its mirror by refspecs.

A refspec is ``+source:target``, with one ``*`` in both or in none, or ``^source`` for refs that no other refspec may
take (git-fetch, "refspec").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from stackit import ref_bytes, ref_text

KEPT = b"refs/stackit-kept/"
"""Prefix of the refs that keep old tips. They belong to the mirror, and are neither fetched nor announced."""

_KEPT = KEPT.decode("ascii")


class _Folders(msgspec.Struct, frozen=True):
    """Refspecs that take whole folders under their own names, in a form that compares many refs quickly.

    ``within``: prefixes of the refs that are taken. ``without``: prefixes, and ``but``: names, of those that are not.
    """

    within: tuple[bytes, ...]
    without: tuple[bytes, ...]
    but: frozenset[bytes]

    def take(self, ref: bytes) -> bool:
        return ref.startswith(self.within) and not ref.startswith(self.without) and ref not in self.but


def mapped_refs(refspecs: tuple[str, ...], refs: Mapping[bytes, str]) -> dict[bytes, str]:
    """Map the refs of a remote (object id by ref) to those that the mirror shall have."""
    folders = _as_folders(refspecs)
    if folders is not None:  # the usual case, and a remote may have a hundred thousand refs
        return {ref: oid for ref, oid in refs.items() if folders.take(ref)}
    return {ref_bytes(target): oid for ref, oid in refs.items() for target in destinations(refspecs, ref_text(ref))}


def destinations(refspecs: tuple[str, ...], ref: str) -> Iterator[str]:
    """Yield the mirror's refs for a ref of the remote; never one below ``KEPT``."""
    if any(each.startswith("^") and _matched(each[1:], ref) is not None for each in refspecs):
        return
    for source, target in _mappings(refspecs):
        middle = _matched(source, ref)
        if middle is not None and target and not (mapped := target.replace("*", middle, 1)).startswith(_KEPT):
            yield mapped


def destination(refspecs: tuple[str, ...], ref: str) -> str | None:
    """Return the mirror's first ref for a ref of the remote, or None if no refspec takes it."""
    return next(destinations(refspecs, ref), None)


def is_destination(refspecs: tuple[str, ...], ref: str) -> bool:
    """Return True if the refspecs map some possible ref of a remote to this ref of the mirror."""
    for source, target in _mappings(refspecs):
        middle = _matched(target, ref)
        if middle is not None and ref in destinations(refspecs, source.replace("*", middle, 1)):
            return True
    return False


def for_git(refspecs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the refspecs for ``git fetch``: the given ones, and negative ones that protect the refs below ``KEPT``."""
    protecting = (_without_kept(source, target) for source, target in _mappings(refspecs))
    return tuple(dict.fromkeys([*refspecs, *(each for each in protecting if each is not None)]))


def _as_folders(refspecs: tuple[str, ...]) -> _Folders | None:
    """Return the refspecs as folders, or None if one renames refs or takes something else than a folder."""
    within, without, but = [], [KEPT], set()
    for refspec in refspecs:
        source, _, target = refspec.removeprefix("+").partition(":")
        name = ref_bytes(source.removeprefix("^").removesuffix("*"))
        if b"*" in name or not (refspec.startswith("^") or (source == target and source.endswith("/*"))):
            return None
        if not refspec.startswith("^"):
            within.append(name)
        elif source.endswith("*"):
            without.append(name)
        else:
            but.add(name)
    return _Folders(tuple(within), tuple(without), frozenset(but))


def _mappings(refspecs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield source and target of each refspec that is not negative."""
    for refspec in refspecs:
        if not refspec.startswith("^"):
            source, _, target = refspec.removeprefix("+").partition(":")
            yield source, target


def _without_kept(source: str, target: str) -> str | None:
    """Return a negative refspec for the sources whose targets lie below ``KEPT``, or None if there are none."""
    head, star, _ = target.partition("*")
    if head.startswith(_KEPT):
        return f"^{source}"
    if star and _KEPT.startswith(head):
        return "^" + source.replace("*", _KEPT.removeprefix(head) + "*", 1)
    return None


def _matched(pattern: str, ref: str) -> str | None:
    """Return the text that the pattern's ``*`` stands for ("" without a ``*``), or None if the ref does not match."""
    head, star, tail = pattern.partition("*")
    if not star:
        return "" if ref == pattern else None
    if len(ref) >= len(head) + len(tail) and ref.startswith(head) and ref.endswith(tail):
        return ref[len(head) : len(ref) - len(tail)]
    return None
