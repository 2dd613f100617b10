"""The mirrors' start and stop: nothing of an earlier run in the way, no git left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList

from stackit import App, Occurrence, StackitError
from stackit.plugins.mirror.remote.client import Remotes
from stackit.plugins.mirror.repository.disk_space import Room
from stackit.plugins.mirror.repository.leftovers import SAFE_AGE, found_mirrors, half_clones, leftovers
from stackit.plugins.mirror.schedule.maintenance import Upkeep
from stackit.plugins.mirror.sync.fetch_slots import Places
from stackit.plugins.mirror.sync.worker import Keeper


class Lifetime(Service):
    """Clears the place at start; at stop lets rounds end within the grace, and ends those that do not."""

    def __init__(
        self, app: App, mirrors: Path, keepers: Sequence[Keeper], remotes: Remotes, room: Room, places: Places
    ) -> None:
        self._app = app
        self._mirrors = mirrors
        self._keepers = keepers
        self._remotes = remotes
        self._upkeep = Upkeep(app.reactor, keepers, room, places)

    def startService(self) -> None:
        Service.startService(self)
        half_clones(self._mirrors)
        found = found_mirrors(self._mirrors)
        for keeper in self._keepers:
            known = found.get(keeper.managed.repo.key)
            if known is not None:
                # A mirror that cannot be tidied is one repository's trouble: its first round will say what it is.
                with contextlib.suppress(OSError):
                    self._prepare(keeper, known)
        if self._keepers and not any(keeper.managed.token_file for keeper in self._keepers):
            reason = "no credentials: only public repositories refresh"
            self._app.observe(Occurrence(name="notice", reason=reason))
        if not self._app.sync_interval:
            # No first look of the backstop tells what changed before this start.
            Deferred.fromCoroutine(self._compare())
        self._upkeep.start()

    async def _compare(self) -> None:
        """One after the other, as nobody waits for it."""
        for keeper in self._keepers:
            if keeper.directory.exists() and not keeper.rounds.busy:
                with contextlib.suppress(StackitError, OSError):  # its next round says what it is
                    await keeper.compare()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        self._upkeep.stop()
        for keeper in self._keepers:
            keeper.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # Whoever waits for a round had the grace for it. git gets a moment of its own when it is ended.
        for keeper in self._keepers:
            keeper.rounds.cancel()
        await DeferredList([keeper.rounds.idle() for keeper in self._keepers])
        await self._remotes.close()

    def _prepare(self, keeper: Keeper, known: Path) -> None:
        """``known`` is the mirror, which may lie under a spelling of its name that is no longer the configured one."""
        if known != keeper.directory and not keeper.directory.exists():
            keeper.directory.parent.mkdir(parents=True, exist_ok=True)
            known.rename(keeper.directory)
        removed = leftovers(keeper.directory, before=self._app.now() - SAFE_AGE)
        if removed:
            reason = f"removed {removed} leftovers of a git that was killed"
            self._app.observe(Occurrence(name="healed", repo=keeper.managed.repo, reason=reason, count=removed))
