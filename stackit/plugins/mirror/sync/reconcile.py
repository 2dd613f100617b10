"""The way of a mirror's refs to those of its remote, in an order that readers do not notice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from stackit import ref_bytes, ref_text
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Fetched
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.refspecs import mapped_refs
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.repository.head import choose_head
from stackit.plugins.mirror.repository.repository import Repository
from stackit.plugins.mirror.sync.ref_plan import Objection, RefPlan, plan

Fetch = Callable[[], Awaitable[Fetched]]


class Reconciled(msgspec.Struct, frozen=True):
    """The result of ``reconcile``.

    ``refs`` are those of the mirror before the deletions. ``held`` is the objection to deletions, ``fetched`` the
    result of the fetch; None if there was none.
    """

    refs: Snapshot
    held: str | None = None
    fetched: Fetched | None = None


async def reconcile(
    repository: Repository, refspecs: tuple[str, ...], listing: Listing, *, fetch: Fetch, objection: Objection
) -> Reconciled:
    """Make the mirror equal to the remote's list of refs. Raises GitError.

    New and moved refs come first, then HEAD follows, and deletions come last: at no moment does a reader miss a
    branch that was renamed.
    """
    mapped = mapped_refs(refspecs, listing.refs)
    before = await repository.refs()
    if Snapshot.from_refs(mapped) == before:
        await follow_head(repository, refspecs, listing, before)
        return Reconciled(before)
    steps = plan(refspecs, before.as_dict(), {ref_text(ref): oid for ref, oid in mapped.items()}, objection)
    fetched = await _fetch(repository, steps, fetch) if steps.needs_fetch else None
    now = await repository.refs()
    gone = steps.deletions_from(now)
    await follow_head(repository, refspecs, listing, _without(now, gone))
    await repository.delete(gone)
    return Reconciled(now, steps.held, fetched)


async def follow_head(repository: Repository, refspecs: tuple[str, ...], listing: Listing, refs: Snapshot) -> None:
    """Set HEAD to the ref that ``choose_head`` finds; ``refs`` are all that the mirror keeps."""
    head = repository.head
    target = choose_head(refspecs, listing, refs, head)
    if target not in (None, head):
        await repository.set_head(target)


async def _fetch(repository: Repository, steps: RefPlan, fetch: Fetch) -> Fetched:
    """Fetch; a ref that blocks a new one is deleted only after git has said so."""
    try:
        return await fetch()
    except GitError as problem:
        blocking = steps.blocking() if "lock ref" in problem.stderr else {}
        if not blocking:
            raise
    await repository.delete(blocking)
    return await fetch()  # the objects are here by now, so it takes no time


def _without(refs: Snapshot, gone: dict[str, str]) -> Snapshot:
    if not gone:
        return refs
    return Snapshot.from_refs({ref_bytes(ref): oid for ref, oid in refs.as_dict().items() if ref not in gone})
