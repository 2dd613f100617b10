"""The fast fetch of a push: the announced commits in one round trip, whatever the number of refs.

git's own client lists every ref before it asks for objects, and starts half a dozen processes. A push names its
commit, so no list is needed: one request asks for the objects, and a second, at the same time, for the commit that the
ref has now. Meanwhile the gits that unpack and check are started, so that the pack finds them ready. The ref moves when
the objects are here and complete, and the second answer is in. A push that does not fit is fetched by ``git fetch``,
and counted with the reason.
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
"""The most refs that are asked for by name. Pushes of more are rare, and git is good at them."""
MOST_HAVES = 16
HEAD_START = 0.005
"""Seconds between the request for the pack and the one for the refs, if the pack is not here before. The refs come
before the pack is unpacked and checked all the same, and a remote with one core sends the pack sooner."""


class Target(msgspec.Struct, frozen=True):
    """A ref of the remote, its name in the mirror, and the commit that a push announced."""

    source: str
    ref: str
    after: str


class FastFetch:
    """Fetches pushed refs into one mirror, without git's client."""

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
        """Move the targets (by ref) to where the remote has them now, and return the changes.

        ``refs`` are all refs of the mirror. Raises Fallback, with no ref moved, if the push has to be fetched in a
        slower way; StackitError and OSError as git and the remote do.
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
        """End the gits that wait for a remote that hangs."""
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
            # Pushed again since: the mirror moves to where the remote is, in one step.
            await receiver.receive(await self._remote.fetch_pack(later, [*wants, *haves][:MOST_HAVES]), _id_size(later))
        if set(moved.values()) != set(wants):
            walked = await receiver.check_connected(sorted(set(moved.values())), haves)
        receiver.admit()
        changes = await self._changes(refs, moved, walked)
        await self._move(changes, walked)
        return changes

    async def _remote_oids(self, targets: Mapping[str, Target], packing: Deferred[bytes]) -> dict[str, str]:
        """Ask the remote for the targets, and return the object id by ref, of those that exist."""
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
        """Unpack and check the pack, by gits that are started while it comes."""
        try:
            await _on_its_way(self._reactor)
            receiver.start()
        except BaseException:
            await _cancelled(packing)
            raise
        await receiver.receive(await packing, _id_size(wants))
        return await receiver.check_connected(wants, haves)

    async def _changes(
        self, refs: Snapshot, moved: Mapping[str, str], walked: Mapping[str, list[str]]
    ) -> tuple[RefChange, ...]:
        """Return the changes that the moves will be, and if they are forced.

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
        """Move all refs in one transaction, each only from its known commit."""
        # A branch must name a commit. An object with parents is one; git checks anything else.
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
    """Wait until the data just written has left: starting a process would hold it up.

    A turn of the reactor begins with the calls that are due, and then writes.
    """
    await sleep(reactor, 0)
    await sleep(reactor, 0)


async def _head_start(reactor: Reactor, packing: Deferred[bytes]) -> None:
    """Wait until the pack is here, has failed, or its head start is over."""
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
    """Cancel a request, and wait until it has ended."""
    asking.cancel()
    await DeferredList([asking], consumeErrors=True)


async def _both(asking: Deferred[Any], arriving: Deferred[Any]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Wait until both have ended, and return their results. Raises the failure of one that failed."""
    outcomes: list[Any] = await DeferredList([asking, arriving], consumeErrors=True)
    for succeeded, outcome in outcomes:
        if not succeeded:
            outcome.raiseException()
    (_, remote_oids), (_, walked) = outcomes
    return remote_oids, walked


def _id_size(oids: Sequence[str]) -> int:
    """Return the size of an object id in bytes."""
    return len(oids[0]) // 2


def _haves(refs: Snapshot, targets: Mapping[str, Target]) -> list[str]:
    """Return commits of the mirror that the new ones most likely build on."""
    known = [oid for ref in targets if (oid := refs.get(ref)) is not None]
    if len(known) < len(targets):  # a new branch begins somewhere near the others
        known += refs.some(MOST_HAVES)
    return list(dict.fromkeys(known))[:MOST_HAVES]
