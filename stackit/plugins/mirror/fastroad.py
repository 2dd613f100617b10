"""The fast road of a push: the announced commits in one round trip, whatever the number of refs.

git's own client lists every ref before it asks for anything, and starts half a dozen
processes. A push names its commit, so there is nothing to look up: one request asks for
the objects, a second, in the same breath, for the remote's word on where the ref stands.
What does not fit goes by ``git fetch``, and is counted with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from stackit import RefChange
from stackit.plugins.mirror import pktline
from stackit.plugins.mirror.ancestry import forward as forward_moves
from stackit.plugins.mirror.git import Git, GitError
from stackit.plugins.mirror.pktline import ProtocolError
from stackit.plugins.mirror.refs import Snapshot, ref_bytes
from stackit.plugins.mirror.remote import Remote, Unanswered

MOST_REFS = 50
"""Refs that one round trip asks for; a push of more is rare, and git is good at it."""
MOST_HAVES = 16
FEW_OBJECTS = 500
"""Up to so many objects are unpacked one by one, which leaves no small packs behind."""


class Target(msgspec.Struct, frozen=True):
    """A ref of the remote, where it lands in the mirror, and the commit that a push announced there."""

    source: str
    ref: str
    after: str


class Detour(Exception):
    """This push cannot take the fast road; ``reason`` is from a small closed set, fit for a metric's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def travel(
    git: Git, remote: Remote, directory: Path, refs: Snapshot, targets: Mapping[str, Target]
) -> tuple[RefChange, ...]:
    """Bring the targets (by ref) to where the remote says they stand now; returns what moved.

    ``refs`` are all refs of the mirror, as they are known to be. Raises Detour, with no ref
    moved, where this is not the way; GitError and StackitError as ``git`` and ``remote`` do.
    """
    if len(targets) > MOST_REFS:
        raise Detour("many_refs")
    haves = _haves(refs, targets)
    wants = sorted({target.after for target in targets.values()})
    try:
        listed, pack = await remote.refs_and_pack([ref_bytes(each.source) for each in targets.values()], wants, haves)
        standing = {ref: listed.refs.get(ref_bytes(target.source)) for ref, target in targets.items()}
        found = {ref: oid for ref, oid in standing.items() if oid is not None}
        if len(found) < len(targets):
            raise Detour("gone")  # deleted since: what else that means, the whole list of refs tells
        await _take_in(git, directory, pack)
        later = sorted(set(found.values()) - set(wants))
        if later:  # pushed over since: the mirror goes to where the remote is, in one step
            await _take_in(git, directory, await remote.pack(later, [*wants, *haves][:MOST_HAVES]))
    except Unanswered as problem:
        raise Detour(problem.reason) from problem
    moved = {ref: oid for ref, oid in found.items() if oid != refs.get(ref)}
    if not moved:
        return ()
    changes = await _checked(git, directory, refs, moved, haves)
    await _move(git, directory, changes)
    return changes


def _haves(refs: Snapshot, targets: Mapping[str, Target]) -> list[str]:
    """What the mirror has that the new commits most likely build on."""
    known = [oid for ref in targets if (oid := refs.get(ref)) is not None]
    if len(known) < len(targets):  # a new branch begins somewhere near the others
        known += refs.some(MOST_HAVES)
    return list(dict.fromkeys(known))[:MOST_HAVES]


async def _take_in(git: Git, directory: Path, pack: bytes) -> None:
    """Add the objects of a pack to the repository."""
    try:
        count = pktline.objects_in(pack)
    except ProtocolError:
        raise Detour("protocol") from None
    if count == 0:
        return
    command = ("unpack-objects", "-q") if count <= FEW_OBJECTS else ("index-pack", "--stdin", "--fix-thin")
    try:
        await git.local(directory, *command, stdin=pack)
    except GitError:
        raise Detour("pack") from None


async def _checked(
    git: Git, directory: Path, refs: Snapshot, moved: Mapping[str, str], haves: list[str]
) -> tuple[RefChange, ...]:
    """The changes, once it is sure that the new tips lack nothing.

    Everything down to what refs pointed to before must be here, which is what git itself
    checks after a fetch. The same walk tells which tips are forced: an old tip that is the
    parent of no new commit is no ancestor of them.
    """
    said = "".join([*(f"{oid}\n" for oid in moved.values()), *(f"^{oid}\n" for oid in haves)]).encode()
    try:
        walked = await git.local(
            directory, "rev-list", "--objects", "--no-object-names", "--parents", "--stdin", stdin=said
        )
    except GitError:
        raise Detour("unconnected") from None
    parents = {oid for line in walked.stdout.decode("ascii").splitlines() for oid in line.split()[1:]}
    changes = []
    for ref, new in moved.items():
        old = refs.get(ref)
        if old is None:
            changes.append(RefChange(ref, "0" * len(new), new, "created"))
        elif len(moved) == 1 and ref.startswith("refs/heads/") and old in parents:
            changes.append(RefChange(ref, old, new, "updated"))
        else:  # several histories in one walk, or a tag, which may be no commit
            forward = {(old, new)} == await forward_moves(git, directory, [(old, new)])
            changes.append(RefChange(ref, old, new, "updated", forced=not forward))
    return tuple(changes)


async def _move(git: Git, directory: Path, changes: tuple[RefChange, ...]) -> None:
    """All refs in one transaction, each only from where it is known to be."""
    said = b"".join(
        b"update %b\0%b\0%b\0" % (ref_bytes(each.ref), each.new.encode(), each.old.encode()) for each in changes
    )
    try:
        await git.local(directory, "update-ref", "--stdin", "-z", stdin=said)
    except GitError:
        raise Detour("ref_lock") from None
