"""The first clone from another node of the fleet, which has a mirror of the same repository."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from stackit import App, ManagedRepo, Occurrence, StackitError
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.refspecs import KEPT
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.growth import Growth
from stackit.plugins.mirror.sync.clone import Cloner
from stackit.plugins.mirror.sync.settings import SyncSettings
from stackit.plugins.mirror.sync.slot_holder import SlotHolder
from stackit.plugins.mirror.sync.supervised_git import SupervisedGit
from stackit.plugins.mirror.sync.tunables import Tunables

_KEPT = f"+{KEPT.decode()}*:{KEPT.decode()}*"

Peers = Callable[[ManagedRepo], Sequence[ManagedRepo]]
"""Returns where other nodes serve their mirrors of a repository, the most promising first."""


def no_peers(managed: ManagedRepo) -> Sequence[ManagedRepo]:  # noqa: ARG001 - there is one node
    """Return none."""
    return ()


class PeerClone:
    """Clones the mirror of another node. The remote's own refs are compared later, as with any mirror that is there."""

    def __init__(
        self,
        app: App,
        git: Git,
        managed: ManagedRepo,
        peers: Peers,
        *,
        slot: SlotHolder,
        disk: DiskReserve,
        growth: Growth,
        settings: SyncSettings,
        tunables: Tunables,
    ) -> None:
        self.managed = managed
        self._app = app
        self._git = git
        self._peers = peers
        self._slot = slot
        self._disk = disk
        self._growth = growth
        self._timeout = settings.timeout
        self._tunables = tunables

    @property
    def is_possible(self) -> bool:
        """True where there is another node to ask."""
        return bool(self._peers(self.managed))

    async def clone(self, place: Path) -> bool:
        """Clone into ``place``; False where no node has a mirror to clone."""
        for peer in self._peers(self.managed):
            try:
                await self._clone_from(peer, place)
            except (StackitError, OSError):
                continue  # the next one is asked, and at last the remote, whose answer counts
            reason = f"cloned from the mirror of another node: {peer.url}"
            self._app.observe(Occurrence(name="notice", repo=self.managed.repo, reason=reason))
            return True
        return False

    async def fetch_kept(self, place: Path) -> None:
        """Fetch the old tips that other nodes keep, and the mirror at ``place`` has not. Those nodes may be away."""
        for peer in self._peers(self.managed):
            with contextlib.suppress(StackitError, OSError):
                await self._git_for(peer).fetch(place, only=(_KEPT,))

    async def _clone_from(self, peer: ManagedRepo, place: Path) -> None:
        git = self._git_for(peer)
        listing = await git.listing()
        if not listing.refs:
            raise GitError("the mirror of that node is empty")
        cloner = Cloner(self._app, self._git, peer, git, place, tunables=self._tunables)
        await cloner.clone(listing)
        if any(ref.startswith(KEPT) for ref in listing.refs):
            await git.fetch(place, first=True, only=(_KEPT,))

    def _git_for(self, peer: ManagedRepo) -> SupervisedGit:
        return SupervisedGit(
            self._app,
            self._git,
            peer,
            self._timeout,
            slot=self._slot,
            disk=self._disk,
            growth=self._growth,
            tunables=self._tunables,
        )
