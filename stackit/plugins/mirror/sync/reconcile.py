"""From the refs that the mirror has to those that the remote has, in an order that readers do not notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import pairwise

import msgspec

from stackit import ref_bytes, ref_text
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Fetched
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.refspecs import is_destination, mapped_refs
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.repository.head import choose_head
from stackit.plugins.mirror.repository.repository import Repository

LONGEST_PART = 250
"""Bytes of a part of a ref's name: a file's name has at most 255, and a lock's is longer by 5 (git-update-ref)."""
LONGEST_NAME = 2048
"""Bytes of a whole one: a path has at most 4,096, and the mirror's own place takes some."""

Fetch = Callable[[], Awaitable[Fetched]]
Object = Callable[[Mapping[str, str], Mapping[str, str], Mapping[str, str]], str | None]


class Reconciled(msgspec.Struct, frozen=True):
    """``held`` is the objection to deletions, where there is one; ``fetched`` how the fetch ended, if one was needed.

    ``refs`` are what the mirror had then, before the deletions.
    """

    refs: Snapshot
    held: str | None = None
    fetched: Fetched | None = None


async def reconcile(
    repository: Repository, refspecs: tuple[str, ...], listing: Listing, *, fetch: Fetch, objection: Object
) -> Reconciled:
    """Make the mirror equal to what the remote listed.

    New and moved refs come first, then HEAD follows, and only then what is gone goes: at no moment does a
    reader miss a branch that was renamed. ``objection`` is asked with all refs, those that would go, and
    the remote's. Raises GitError.
    """
    landed = mapped_refs(refspecs, listing.refs)
    before = await repository.refs()
    if Snapshot.from_refs(landed) == before:
        await follow_head(repository, refspecs, listing, before)
        return Reconciled(before)
    wanted = {ref_text(ref): oid for ref, oid in landed.items()}
    have = before.as_dict()
    gone = {ref: oid for ref, oid in have.items() if ref not in wanted}
    # What the configuration asks for no longer may go without a question.
    ours = {ref: oid for ref, oid in have.items() if is_destination(refspecs, ref)}
    held = objection(ours, {ref: oid for ref, oid in gone.items() if ref in ours}, wanted)
    if held is not None:
        gone = {ref: oid for ref, oid in gone.items() if ref not in ours}
    fetched = None
    if any(have.get(ref) != oid for ref, oid in wanted.items()):
        try:
            fetched = await fetch()
        except GitError as problem:
            # refs/heads/a/b cannot be made while refs/heads/a is there, not even in the same transaction.
            blocking = {ref: gone[ref] for ref in in_the_way(gone, wanted)} if "lock ref" in problem.stderr else {}
            if not blocking:
                raise
            await repository.delete(blocking)
            fetched = await fetch()  # the objects are here by now, so it takes no time
    now = left = await repository.refs()
    # A ref that the fetch found is not gone, whatever the list said before.
    gone = {ref: oid for ref, oid in gone.items() if now.get(ref) == oid} if gone else {}
    if gone:
        left = Snapshot.from_refs({ref_bytes(ref): oid for ref, oid in now.as_dict().items() if ref not in gone})
    await follow_head(repository, refspecs, listing, left)
    await repository.delete(gone)
    return Reconciled(now, held, fetched)


async def follow_head(repository: Repository, refspecs: tuple[str, ...], listing: Listing, refs: Snapshot) -> None:
    """Let HEAD name what it should (``choose_head``); ``refs`` are all that the mirror keeps."""
    head = repository.head
    target = choose_head(refspecs, listing, refs, head)
    if target not in (None, head):
        await repository.set_head(target)


def in_the_way(gone: Iterable[str], wanted: Iterable[str]) -> set[str]:
    """Those that are gone and whose name is a folder of a wanted one, or lies in a folder that is wanted as a ref."""
    gone, wanted = set(gone), set(wanted)
    found: set[str] = set()
    above: list[str] = []  # those that are folders of the one at hand
    for ref in _folders_first(gone | wanted):
        while above and not ref.startswith(f"{above[-1]}/"):
            above.pop()
        if ref in wanted:
            found.update(gone.intersection(above))
        elif not wanted.isdisjoint(above):
            found.add(ref)
        above.append(ref)
    return found


def go_together(refs: Iterable[str]) -> bool:
    """Whether each of these could be a file of its own, as a fetch makes them, and git when one of them moves.

    None has the name of a folder that another is in, or one that is too long for a file system.
    """
    names = _folders_first(refs)
    return not (any(map(_is_too_long, names)) or any(ref.startswith(f"{before}/") for before, ref in pairwise(names)))


def _folders_first(refs: Iterable[str]) -> list[str]:
    """Sorted so that right behind a ref comes what has its name as a folder."""
    return sorted(refs, key=lambda ref: ref.replace("/", "\0"))


def _is_too_long(ref: str) -> bool:
    name = ref_bytes(ref)
    return len(name) > LONGEST_PART and (
        len(name) > LONGEST_NAME or max(len(part) for part in name.split(b"/")) > LONGEST_PART
    )
