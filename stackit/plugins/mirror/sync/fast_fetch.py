"""The fast fetch of a push: the announced commits in one round trip, whatever the number of refs.

git's own client lists every ref before it asks for anything, and starts half a dozen
processes. A push names its commit, so there is nothing to look up: one request asks for
the objects, a second, in the same breath, for the remote's word on where the ref stands.
While the remote works, the gits that unpack and check are started, so that what comes finds
them ready. The ref moves when the objects are here and whole, and the remote's word is in.
What does not fit goes by ``git fetch``, and is counted with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList

from stackit import Reactor, RefChange, ref_bytes, sleep
from stackit.http.client import RemoteError
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import TOO_MANY_REFS, Git
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.remote import protocol_v2
from stackit.plugins.mirror.remote.client import Remote
from stackit.plugins.mirror.remote.protocol_v2 import ProtocolError
from stackit.plugins.mirror.repository import loose_refs
from stackit.plugins.mirror.repository.ancestry import fast_forwards
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.sync.fallback import Fallback
from stackit.plugins.mirror.sync.pack_receiver import PackReceiver

__all__ = ["Fallback", "FastFetch", "Target"]

MOST_REFS = 50
"""Refs that are asked for by name; pushes of more are rare, and git is good at it."""
MOST_HAVES = 16
HEAD_START = 0.005
"""Seconds from asking for the pack until the remote's word is asked for, if the pack is not here before. The word is in
before the pack is unpacked and walked all the same, and a remote that has one core for both is done with the pack
sooner."""


class Target(msgspec.Struct, frozen=True):
    """A ref of the remote, where it lands in the mirror, and the commit that a push announced there."""

    source: str
    ref: str
    after: str


class FastFetch:
    """The fast fetch into one mirror."""

    def __init__(
        self, reactor: Reactor, git: Git, remote: Remote, directory: Path, *, disk: DiskReserve, growth: Growth
    ) -> None:
        self._reactor = reactor
        self._git = git
        self._remote = remote
        self._directory = directory
        self._disk = disk
        self._growth = growth
        self._receiver: PackReceiver | None = None

    async def fetch(self, refs: Snapshot, targets: Mapping[str, Target]) -> tuple[RefChange, ...]:
        """Bring the targets (by ref) to where the remote says they stand now; returns what moved.

        ``refs`` are all refs of the mirror, as they are known to be. Raises Fallback, with no ref
        moved, where this is not the way; StackitError and OSError as git and the remote do.
        """
        try:
            await self._remote.check_ready()
        except RemoteError as problem:
            raise Fallback(problem.reason) from problem
        self._receiver = receiver = PackReceiver(self._git, self._directory, self._disk, self._growth)
        try:
            return await self._fetch(receiver, refs, targets)
        except RemoteError as problem:
            raise Fallback(problem.reason) from problem
        finally:
            self._receiver = None
            await receiver.close()

    def release_git(self) -> None:
        """Have no git wait for a remote that hangs."""
        if self._receiver is not None:
            self._receiver.release_git()

    async def _fetch(
        self, receiver: PackReceiver, refs: Snapshot, targets: Mapping[str, Target]
    ) -> tuple[RefChange, ...]:
        wants, haves = sorted({target.after for target in targets.values()}), _haves(refs, targets)
        packing = Deferred.fromCoroutine(self._remote.fetch_pack(wants, haves))
        asking = Deferred.fromCoroutine(self._remote_oids(targets, packing))
        arriving = Deferred.fromCoroutine(self._arrived(receiver, packing, wants, haves))
        remote_oids, walked = await _both(asking, arriving)
        if len(remote_oids) < len(targets):
            raise Fallback(
                "gone", needs_all_refs=True
            )  # deleted since: what else that means, the whole list of refs tells
        moved = {ref: oid for ref, oid in remote_oids.items() if oid != refs.get(ref)}
        if not moved:
            return ()
        if later := sorted(set(moved.values()) - set(wants)):
            # Pushed over since: the mirror goes to where the remote is, in one step.
            await receiver.take(await self._remote.fetch_pack(later, [*wants, *haves][:MOST_HAVES]), _id_size(later))
        if set(moved.values()) != set(wants):
            walked = await receiver.walked(sorted(set(moved.values())), haves)
        receiver.admit()
        changes = await self._changes(refs, moved, walked)
        await self._move(changes, walked)
        return changes

    async def _remote_oids(self, targets: Mapping[str, Target], packing: Deferred[bytes]) -> dict[str, str]:
        """Where the remote says that the targets stand: the object id by ref, for those that are there."""
        await _head_start(self._reactor, packing)
        sources = {ref: ref_bytes(target.source) for ref, target in targets.items()}
        sha256 = any(len(target.after) == 64 for target in targets.values())
        try:
            answer = await self._remote.list_refs(sources.values(), "sha256" if sha256 else "sha1")
        except RemoteError as problem:
            if problem.reason == "too_large":  # for a few refs: git, which takes whatever comes, is not to try
                raise GitError(TOO_MANY_REFS, kind="remote") from None
            raise
        try:
            listed = protocol_v2.parse_listing(answer).refs
        except ProtocolError as problem:
            raise self._remote.reject_listing(problem) from None
        return {ref: listed[source] for ref, source in sources.items() if source in listed}

    async def _arrived(
        self, receiver: PackReceiver, packing: Deferred[bytes], wants: Sequence[str], haves: Sequence[str]
    ) -> dict[str, list[str]]:
        """Take in what comes, and walk it, by gits that are started meanwhile."""
        try:
            await _on_its_way(self._reactor)
            receiver.start()
        except BaseException:
            await _cancelled(packing)
            raise
        await receiver.take(await packing, _id_size(wants))
        return await receiver.walked(wants, haves)

    async def _changes(
        self, refs: Snapshot, moved: Mapping[str, str], walked: Mapping[str, list[str]]
    ) -> tuple[RefChange, ...]:
        """What moving them will change, and whether it is forced.

        The walk tells that, too: an old tip that is the parent of no new commit is no ancestor of them.
        """
        parents = {oid for each in walked.values() for oid in each}
        changes = []
        for ref, new in moved.items():
            old = refs.get(ref)
            if old is None:
                changes.append(RefChange(ref, "0" * len(new), new, "created"))
            elif len(moved) == 1 and ref.startswith("refs/heads/") and old in parents:
                changes.append(RefChange(ref, old, new, "updated"))
            else:  # several histories in one walk, or a tag, which may be no commit
                forward = {(old, new)} == await fast_forwards(self._git, self._directory, [(old, new)])
                changes.append(RefChange(ref, old, new, "updated", forced=not forward))
        return tuple(changes)

    async def _move(self, changes: tuple[RefChange, ...], walked: Mapping[str, list[str]]) -> None:
        """All refs in one transaction, each only from where it is known to be."""
        # A branch names a commit: what has parents is one, and anything else git takes a look at.
        if len(changes) == 1 and changes[0].new in walked and loose_refs.move(self._directory, changes[0]):
            return
        said = b"".join(
            b"update %b\0%b\0%b\0" % (ref_bytes(each.ref), each.new.encode(), each.old.encode()) for each in changes
        )
        try:
            await self._git.local(self._directory, "update-ref", "--stdin", "-z", stdin=said)
        except GitError:
            raise Fallback("ref_lock", needs_all_refs=True) from None


async def _on_its_way(reactor: Reactor) -> None:
    """Until what was just written has left; starting a process would hold it up.

    A turn of the reactor begins with the calls that are due, and then writes.
    """
    await sleep(reactor, 0)
    await sleep(reactor, 0)


async def _head_start(reactor: Reactor, packing: Deferred[bytes]) -> None:
    """Until the pack is here, or is known not to come, or its head start is over."""
    over: Deferred[None] = Deferred()
    timer = reactor.callLater(HEAD_START, over.callback, None)

    def settled(outcome: Any) -> Any:
        if timer.active():
            timer.cancel()
            over.callback(None)
        return outcome

    packing.addBoth(settled)
    try:
        await over
    finally:
        if timer.active():
            timer.cancel()


async def _cancelled(asking: Deferred[Any]) -> None:
    """Ask no more, and wait until nothing is left of it."""
    asking.cancel()
    await DeferredList([asking], consumeErrors=True)


async def _both(asking: Deferred[Any], arriving: Deferred[Any]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """What both come to, when neither runs any more; where one fails, its failure."""
    outcomes: list[Any] = await DeferredList([asking, arriving], consumeErrors=True)
    for succeeded, outcome in outcomes:
        if not succeeded:
            outcome.raiseException()
    (_, remote_oids), (_, walked) = outcomes
    return remote_oids, walked


def _id_size(oids: Sequence[str]) -> int:
    """The size of an object id in bytes."""
    return len(oids[0]) // 2


def _haves(refs: Snapshot, targets: Mapping[str, Target]) -> list[str]:
    """What the mirror has that the new commits most likely build on."""
    known = [oid for ref in targets if (oid := refs.get(ref)) is not None]
    if len(known) < len(targets):  # a new branch begins somewhere near the others
        known += refs.some(MOST_HAVES)
    return list(dict.fromkeys(known))[:MOST_HAVES]
