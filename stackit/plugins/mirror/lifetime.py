"""The mirrors' start and stop: nothing of an earlier run in the way, no git left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList

from stackit import App, Occurrence
from stackit.plugins.mirror.keeper import Keeper
from stackit.plugins.mirror.sweep import SAFE_AGE, half_clones, leftovers, other_spelling
from stackit.processes import GRACE


class Lifetime(Service):
    """Clears the place at start; at stop lets rounds end within the grace, and ends those that do not."""

    def __init__(self, app: App, mirrors: Path, keepers: Sequence[Keeper]) -> None:
        self._app = app
        self._mirrors = mirrors
        self._keepers = keepers

    def startService(self) -> None:
        Service.startService(self)
        half_clones(self._mirrors / ".cloning")
        for keeper in self._keepers:
            # A mirror that cannot be tidied is one repository's trouble: its first round will say what it is.
            with contextlib.suppress(OSError):
                self._prepare(keeper)
        if self._keepers and not any(keeper.managed.token_file for keeper in self._keepers):
            reason = "no credentials: only public repositories refresh"
            self._app.observe(Occurrence(name="notice", reason=reason))

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        for keeper in self._keepers:
            keeper.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        # git gets a grace of its own when it is ended, which must fit in.
        patience = max(0.0, self._app.grace - 2 * GRACE)
        late = self._app.reactor.callLater(patience, self._cancel)
        await DeferredList([keeper.rounds.idle() for keeper in self._keepers])
        if late.active():
            late.cancel()

    def _cancel(self) -> None:
        for keeper in self._keepers:
            keeper.rounds.cancel()

    def _prepare(self, keeper: Keeper) -> None:
        known = other_spelling(self._mirrors, keeper.managed)
        if known is not None:
            keeper.directory.parent.mkdir(parents=True, exist_ok=True)
            known.rename(keeper.directory)
        removed = leftovers(keeper.directory, before=self._app.reactor.seconds() - SAFE_AGE)
        if removed:
            reason = f"removed {removed} leftovers of a git that was killed"
            self._app.observe(Occurrence(name="healed", repo=keeper.managed.repo, reason=reason, count=removed))
