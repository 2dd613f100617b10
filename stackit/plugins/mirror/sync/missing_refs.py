"""The refs of a remote that a mirror cannot hold: git leaves some out, warns, and calls it a success."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec

from stackit import ref_bytes, ref_text
from stackit.plugins.mirror.git.runner import Fetched
from stackit.plugins.mirror.refs.listing import Listing
from stackit.plugins.mirror.refs.refspecs import mapped_refs
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.repository.repository import Repository

SHOWN = 3
"""Refs that are named in the text."""

Ask = Callable[[], Awaitable[Listing]]
Fetch = Callable[[], Awaitable[Fetched]]


class MissingRefs(msgspec.Struct, frozen=True):
    """The refs that the mirror cannot hold, by their names in the mirror, and the reason."""

    refs: frozenset[str]
    why: str

    def __str__(self) -> str:
        names = [_shown(ref) for ref in sorted(self.refs)]
        listed = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        what = "a ref" if len(names) == 1 else f"{len(names)} refs"
        return f"the mirror cannot hold {what} of the remote: {listed}: {self.why}"

    def without(self, refs: Mapping[str, object]) -> MissingRefs | None:
        """Return the others when these have been fetched; None if there are none."""
        left = self.refs.difference(refs)
        return MissingRefs(left, self.why) if left else None


async def find_missing_refs(
    repository: Repository,
    refspecs: tuple[str, ...],
    listing: Listing,
    refs: Snapshot,
    fetched: Fetched,
    *,
    fetch: Fetch,
    ask: Ask,
) -> MissingRefs | None:
    """Return the listed refs that ``refs`` lack after a fetch with the result ``fetched``; None if there are none.

    A ref may have moved or been deleted meanwhile. So the remote is asked again (``ask``), and fetched again
    (``fetch``) if git did not warn that it left a ref out. Raises GitError.
    """
    while True:
        wanted, have = _mapped(refspecs, listing), refs.as_dict()
        missing = {ref for ref, oid in wanted.items() if have.get(ref) != oid}
        if not missing:
            return None
        listing = await ask()
        now = _mapped(refspecs, listing)
        # A ref that has another commit than in both lists moved to and fro, and is fetched by the next round.
        missing = {ref for ref in missing if ref in now and (ref not in have or now[ref] == wanted[ref] != have[ref])}
        if not missing:
            return None
        if fetched.warnings:
            return MissingRefs(frozenset(missing), _why(fetched.warnings))
        fetched, refs = await fetch(), await repository.refs()
        if not fetched.warnings:
            fetched = Fetched("git does not say why", fetched.certain)


def _mapped(refspecs: tuple[str, ...], listing: Listing) -> dict[str, str]:
    return {ref_text(ref): oid for ref, oid in mapped_refs(refspecs, listing.refs).items()}


def _why(warnings: str) -> str:
    if "shallow" in warnings:
        return "the remote is a shallow clone, and lacks the history below (there: git fetch --unshallow)"
    if "funny ref" in warnings or "broken name" in warnings:
        return "git refuses such names (there: rename or delete them, or leave them out by refspecs)"
    return "git left them out of the fetch"


def _shown(ref: str) -> str:
    """Return a ref fit for a text: a remote may put anything into its name."""
    name = ref_bytes(ref).decode("utf-8", "backslashreplace")[:100]
    return "".join(each if each.isprintable() else "?" for each in name)
