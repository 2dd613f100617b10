"""The packs of a fast fetch: unpacked in a quarantine, walked there, and admitted once nothing is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred, DeferredList

from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.prestarted import PrestartedGit
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.remote import protocol_v2
from stackit.plugins.mirror.remote.protocol_v2 import ProtocolError
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.repository.packs import is_small_unpacked
from stackit.plugins.mirror.repository.quarantine import Quarantine
from stackit.plugins.mirror.sync.fallback import Fallback

FEW_OBJECTS = 500
"""Up to so many objects are unpacked one by one if they are small, which leaves no small packs behind."""

_UNPACK = ("unpack-objects", "-q")
_INDEX = ("index-pack", "--stdin", "--fix-thin")
_WALK = ("rev-list", "--objects", "--no-object-names", "--parents", "--stdin")


class PackReceiver:
    """One or more packs on their way into the repository at ``directory``; ``close`` has to be its end."""

    def __init__(self, git: Git, directory: Path, disk: DiskReserve, growth: Growth) -> None:
        """Raises Fallback where the mirror takes in nothing."""
        try:
            self._quarantine = Quarantine(directory)
        except OSError:
            raise Fallback("pack") from None  # whatever it is, git says it in words
        self._prestarted = PrestartedGit(git, directory, self._quarantine.environment)
        self._disk = disk
        self._growth = growth
        self._sent = 0
        self._releasing: list[Deferred[None]] = []

    def start(self) -> None:
        """Have the gits wait for what comes. Raises OSError and GitError."""
        self._prestarted.start(_UNPACK, _WALK)

    def release_git(self) -> None:
        """Have no git wait: nothing comes for now."""
        self._releasing.append(Deferred.fromCoroutine(self._prestarted.close()))

    async def take(self, pack: bytes, id_size: int) -> None:
        """Unpack a pack; ``id_size`` is that of an object id in bytes.

        Raises Fallback, and GitError where there is no room for it.
        """
        try:
            count = protocol_v2.object_count(pack)
        except ProtocolError:
            raise Fallback("protocol") from None
        self._sent += len(pack)
        if count == 0:
            return
        small = count <= FEW_OBJECTS and is_small_unpacked(pack, id_size)
        try:
            if small:
                await self._prestarted.run(_UNPACK, pack)
            else:
                # Also with few objects: a thin pack brings copies of what its deltas are made from.
                await self._disk.supervise(self._prestarted.run(_INDEX, pack), self._quarantine.size)
        except GitError as problem:
            if problem.kind == "disk":
                raise
            raise Fallback("pack") from None

    async def walked(self, tips: Sequence[str], haves: Sequence[str]) -> dict[str, list[str]]:
        """The parents of each new commit that has any, once it is sure that the tips lack nothing.

        Everything down to what refs pointed to before must be here, which is what git itself
        checks after a fetch. Raises Fallback.
        """
        said = "".join([*(f"{oid}\n" for oid in tips), *(f"^{oid}\n" for oid in haves)]).encode()
        try:
            walked = await self._prestarted.run(_WALK, said)
        except GitError:
            raise Fallback("unconnected") from None
        lines = (line.split() for line in walked.stdout.decode("ascii").splitlines())
        return {commit: parents for commit, *parents in lines if parents}

    def admit(self) -> None:
        """Take the objects into the mirror. Raises Fallback."""
        try:
            self._growth.add(self._quarantine.admit(), self._sent)
        except OSError:
            raise Fallback("pack") from None  # as above

    async def close(self) -> None:
        """End what still runs, and drop what was not admitted."""
        try:
            await self._prestarted.close()
            await DeferredList(self._releasing)
        finally:
            self._quarantine.drop()
