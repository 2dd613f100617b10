"""The packs of a fast fetch: unpacked in a quarantine, walked there, and admitted once nothing is missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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
"""Packs of up to this many small objects are unpacked into loose objects, so that no small packs pile up."""

_UNPACK = ("unpack-objects", "-q")
_INDEX = ("index-pack", "--stdin", "--fix-thin")
_WALK = ("rev-list", "--objects", "--no-object-names", "--parents", "--stdin")


class PackReceiver:
    """Receives packs into the repository at ``directory``, by a quarantine. ``close`` must be called at the end."""

    def __init__(self, git: Git, directory: Path, disk: DiskReserve, growth: Growth) -> None:
        """Raises Fallback if the quarantine cannot be made."""
        try:
            self._quarantine = Quarantine(directory)
        except OSError:
            raise Fallback("pack") from None  # git will report the reason
        self._prestarted = PrestartedGit(git, directory, self._quarantine.environment)
        self._disk = disk
        self._growth = growth
        self._sent = 0

    def start(self) -> None:
        """Start git before the pack is here. Raises OSError and GitError."""
        self._prestarted.start(_UNPACK, _WALK)

    def release_git(self) -> None:
        """End the gits that wait, as the remote hangs."""
        self._prestarted.release()

    async def receive(self, pack: bytes, id_size: int) -> None:
        """Unpack a pack; ``id_size`` is that of an object id in bytes.

        Raises Fallback, and GitError if the disk has no room.
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
                # Also few objects may take much room: the bases of a thin pack's deltas are added to it.
                await self._disk.supervise(self._prestarted.run(_INDEX, pack), self._quarantine.size)
        except GitError as problem:
            if problem.kind == "disk":
                raise
            raise Fallback("pack") from None

    async def check_connected(self, tips: Sequence[str], haves: Sequence[str]) -> dict[str, list[str]]:
        """Check that every object that the tips need is here, and return the parents of each new commit that has any.

        The walk ends at the ``haves``, the commits of refs before the fetch, as git's own check after a fetch does.
        Raises Fallback if an object is missing.
        """
        said = "".join([*(f"{oid}\n" for oid in tips), *(f"^{oid}\n" for oid in haves)]).encode()
        try:
            walked = await self._prestarted.run(_WALK, said)
        except GitError:
            raise Fallback("unconnected") from None
        lines = (line.split() for line in walked.stdout.decode("ascii").splitlines())
        return {commit: parents for commit, *parents in lines if parents}

    def admit(self) -> None:
        """Move the objects into the mirror. Raises Fallback."""
        try:
            self._growth.add(self._quarantine.admit(), self._sent)
        except OSError:
            raise Fallback("pack") from None  # as above

    async def close(self) -> None:
        """End the gits that still run, and delete what was not admitted."""
        try:
            await self._prestarted.close()
        finally:
            self._quarantine.drop()
