"""All that the workers of the mirrors share, and what makes one."""

from __future__ import annotations

from pathlib import Path

from stackit import App, ManagedRepo
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.remote.remotes import Remotes
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fsck import FsckSlots
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.peer_clone import Peers, no_peers
from stackit.plugins.mirror.sync.settings import SyncSettings
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.plugins.mirror.sync.worker import MirrorWorker


class Workshop:
    """Makes workers. ``directory`` holds the mirrors, ``disk`` is its reserve."""

    def __init__(
        self,
        app: App,
        directory: Path,
        git: Git,
        *,
        slots: FetchSlots,
        disk: DiskReserve,
        remotes: Remotes,
        tunables: Tunables,
    ) -> None:
        self.app = app
        self.directory = directory
        self.git = git
        self.slots = slots
        self.disk = disk
        self.remotes = remotes
        self.tunables = tunables
        self._fsck_slots = FsckSlots(app.reactor)

    def make(
        self,
        managed: ManagedRepo,
        settings: SyncSettings,
        *,
        app: App | None = None,
        inherited: bool = False,
        peers: Peers = no_peers,
    ) -> MirrorWorker:
        """Make the worker of a repository, which tells ``app`` what it does in place of the real one.

        ``inherited`` and ``peers`` are those of ``MirrorWorker``.
        """
        return MirrorWorker(
            self.app if app is None else app,
            self.git,
            self.slots,
            managed,
            settings,
            fsck_slots=self._fsck_slots,
            disk=self.disk,
            tunables=self.tunables,
            remote=self.remotes.get(managed),
            inherited=inherited,
            peers=peers,
        )
