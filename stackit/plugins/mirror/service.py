"""The start and stop of the mirrors: leftovers are removed first, and no git outlives the stop."""

from __future__ import annotations

import contextlib
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred

from stackit import App, Occurrence, ReposChange, StackitError, TokenSource
from stackit.plugins.mirror.git.command import url_scheme
from stackit.plugins.mirror.mirrors import Mirrors
from stackit.plugins.mirror.repository.leftovers import remove_partial_clones
from stackit.plugins.mirror.schedule.maintenance import MaintenanceSchedule
from stackit.plugins.mirror.state_history import StateHistory


class MirrorService(Service):
    """Removes leftovers at start. At stop, rounds may end within the grace, and are ended then.

    What only waits when the stop begins ends at once, and no round begins from then on.
    """

    def __init__(
        self,
        app: App,
        directory: Path,
        mirrors: Mirrors,
        maintenance: MaintenanceSchedule,
        history: StateHistory,
    ) -> None:
        """``directory`` holds the mirrors."""
        self._history = history
        self._app = app
        self._directory = directory
        self._mirrors = mirrors
        self._maintenance = maintenance

    def startService(self) -> None:
        Service.startService(self)
        remove_partial_clones(self._directory)
        self._mirrors.prepare()
        web = [managed for managed in self._app.repos if url_scheme(managed.url) in ("https", "http")]
        if web and not any(managed.token_file or managed.token_source for managed in web):
            reason = "no credentials: only public repositories refresh"
            self._app.observe(Occurrence(name="notice", reason=reason))
        if not self._app.sync_interval:
            # Without a backstop, no first round announces the changes before this start.
            Deferred.fromCoroutine(self._compare())
        self._app.repos.on_change(self._changed)
        self._app.repos.on_access(self._access_returned)
        self._app.stop.when_begun(self._begin_nothing)
        self._maintenance.start()

    def _changed(self, change: ReposChange) -> None:
        if self.running:
            self._mirrors.change(change)

    def _access_returned(self, source: TokenSource) -> None:
        if self.running:
            self._mirrors.access_returned(source)

    async def _compare(self) -> None:
        """Announce the changes of each mirror, one after the other."""
        for worker in self._mirrors:
            if worker.directory.exists() and not worker.rounds.busy:
                with contextlib.suppress(StackitError, OSError):  # its next round reports the reason
                    await worker.compare()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        self._begin_nothing()
        return Deferred.fromCoroutine(self._stop())

    def _begin_nothing(self) -> None:
        self._maintenance.stop()
        self._mirrors.stop()

    async def _stop(self) -> None:
        # The pushes that waited for a round had the grace. A git that is ended gets a moment of its own.
        self._mirrors.cancel()
        await self._mirrors.finish()
        await self._history.stop()
