"""Which refs of a remote the refspecs take, and where in the mirror they land.

A refspec is ``+source:target``, with one ``*`` in both or in none, or ``^source`` for what no other may take.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

KEPT = b"refs/stackit-kept/"
"""Where old tips are kept: the mirror's own, neither fetched nor announced."""

_KEPT = KEPT.decode("ascii")


class Folders(msgspec.Struct, frozen=True):
    """Refspecs that take whole folders under their own names, in a form that many refs are compared with quickly.

    ``within`` are the folders; what begins with one of ``without``, or is one of ``but``, is not taken.
    """

    within: tuple[bytes, ...]
    without: tuple[bytes, ...]
    but: frozenset[bytes]

    def take(self, ref: bytes) -> bool:
        return ref.startswith(self.within) and not ref.startswith(self.without) and ref not in self.but


def destinations(refspecs: tuple[str, ...], ref: str) -> Iterator[str]:
    """Where a ref of the remote lands in the mirror, which is nowhere for what would be one of the mirror's own."""
    if any(each.startswith("^") and _matched(each[1:], ref) is not None for each in refspecs):
        return
    for source, target in _mappings(refspecs):
        middle = _matched(source, ref)
        if middle is not None and target and not (landing := target.replace("*", middle, 1)).startswith(_KEPT):
            yield landing


def destination(refspecs: tuple[str, ...], ref: str) -> str | None:
    """The first place where a ref of the remote lands in the mirror; None where no refspec takes it."""
    return next(destinations(refspecs, ref), None)


def is_destination(refspecs: tuple[str, ...], ref: str) -> bool:
    """Whether some ref of the remote, were it there, would land at this ref of the mirror."""
    for source, target in _mappings(refspecs):
        middle = _matched(target, ref)
        if middle is not None and ref in destinations(refspecs, source.replace("*", middle, 1)):
            return True
    return False


def for_git(refspecs: tuple[str, ...]) -> tuple[str, ...]:
    """The refspecs as git is to have them: beside them, what keeps it from the mirror's own refs."""
    kept_back = (_without_own(source, target) for source, target in _mappings(refspecs))
    return tuple(dict.fromkeys([*refspecs, *(each for each in kept_back if each is not None)]))


def folders(refspecs: tuple[str, ...]) -> Folders | None:
    """The refspecs as folders that are taken as they are; None where they are of another kind."""
    within, without, but = [], [KEPT], set()
    for refspec in refspecs:
        source, _, target = refspec.removeprefix("+").partition(":")
        name = source.removeprefix("^").removesuffix("*").encode("utf-8", "surrogateescape")
        if b"*" in name or not (refspec.startswith("^") or (source == target and source.endswith("/*"))):
            return None
        if not refspec.startswith("^"):
            within.append(name)
        elif source.endswith("*"):
            without.append(name)
        else:
            but.add(name)
    return Folders(tuple(within), tuple(without), frozenset(but))


def _mappings(refspecs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Source and target of each refspec that takes anything."""
    for refspec in refspecs:
        if not refspec.startswith("^"):
            source, _, target = refspec.removeprefix("+").partition(":")
            yield source, target


def _without_own(source: str, target: str) -> str | None:
    """A refspec that leaves out what would land among the mirror's own refs; None where nothing would."""
    head, star, _ = target.partition("*")
    if head.startswith(_KEPT):
        return f"^{source}"
    if star and _KEPT.startswith(head):
        return "^" + source.replace("*", _KEPT.removeprefix(head) + "*", 1)
    return None


def _matched(pattern: str, ref: str) -> str | None:
    """What the ``*`` of the pattern stands for in the ref ("" where there is none); None where it does not match."""
    head, star, tail = pattern.partition("*")
    if not star:
        return "" if ref == pattern else None
    if len(ref) >= len(head) + len(tail) and ref.startswith(head) and ref.endswith(tail):
        return ref[len(head) : len(ref) - len(tail)]
    return None
