"""The queue of rounds of one mirror: one at a time, each with the fetch slot that it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from stackit import App, ManagedRepo, StackitError
from stackit.plugins.mirror.sync.announcer import RefAnnouncer
from stackit.plugins.mirror.sync.coalescer import Coalescer
from stackit.plugins.mirror.sync.fetch_slots import Kind
from stackit.plugins.mirror.sync.refresh import Refresher
from stackit.plugins.mirror.sync.requests import FOREGROUND, REMOTE_CAUSES, Request, RoundResult, Stopping, targets_of
from stackit.plugins.mirror.sync.round import RoundRunner
from stackit.plugins.mirror.sync.slot_holder import SlotHolder
from stackit.plugins.mirror.sync.status import SyncStatus

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall


class RoundQueue(Coalescer[Request, RoundResult]):
    """Runs rounds of all causes. A round that failed is tried again by itself, if there is a backstop.

    ``has_fast_fetch``: a push can be fetched without git's client. ``debounce`` is in seconds. ``renew`` is called
    before each round.
    """

    def __init__(
        self,
        app: App,
        managed: ManagedRepo,
        *,
        refresher: Refresher,
        announcer: RefAnnouncer,
        status: SyncStatus,
        slot: SlotHolder,
        has_fast_fetch: bool,
        debounce: float,
        renew: Callable[[], None],
    ) -> None:
        super().__init__(app.reactor, self._run, self._wait_for_slot, debounce)
        self.maintaining = False
        """True while git's own maintenance runs."""
        self.runner = RoundRunner(
            app,
            managed,
            refresher=refresher,
            announcer=announcer,
            status=status,
            slot=slot,
            retry=self._retry_after,
            stop_error=self.stop_error,
        )
        self._app = app
        self._refresher = refresher
        self._announcer = announcer
        self._slot = slot
        self.has_fast_fetch = has_fast_fetch
        self._renew = renew
        self._retry: DelayedCall | None = None

    def ask_quietly(self, request: Request) -> None:
        """Ask for a round that reports by itself how it ended."""
        self.ask(request).addErrback(lambda failure: failure.trap(StackitError) and None)

    def covers(self, request: Request) -> bool:
        """Return True if the round that runs asks the remote for all that this request asks for."""
        running = [each for each in self.running if each.cause in REMOTE_CAUSES]
        if request.full:
            return any(each.full for each in running)
        targets = targets_of(running)
        return bool(running) and (not targets or (request.target is not None and request.target.ref in targets))

    def stop(self, error: Callable[[], StackitError] = Stopping) -> None:
        self._cancel_retry()
        super().stop(error)
        self._slot.stop()

    async def _wait_for_slot(self) -> Callable[[], None]:
        asking = [request for request in self.waiting if request.cause in REMOTE_CAUSES]
        if asking:  # a round that does not ask the remote needs no slot
            await self._slot.enter(self._kind(asking))
        return self._slot.leave

    def _kind(self, asking: list[Request]) -> Kind:
        if not self._refresher.directory.exists():
            return "clone"
        if self.has_fast_fetch and self._announcer.all_announced and targets_of(asking):
            return "quick"
        return "push" if any(each.cause in FOREGROUND for each in asking) else "background"

    async def _run(self, requests: list[Request]) -> RoundResult:
        self._renew()
        asking = [request for request in requests if request.cause in REMOTE_CAUSES]
        if asking:
            self._cancel_retry()
            return await self.runner.run(asking)
        if any(request.cause == "maintenance" for request in requests):
            await self._maintain()
        elif self._announcer.inherited:
            await self._announcer.take_over()
        else:
            await self._announcer.announce_all("start", None)
        return RoundResult()

    async def _maintain(self) -> None:
        self.maintaining = True
        try:
            await self._refresher.housekeeping.maintain()
        finally:
            self.maintaining = False
        self.runner.fetches_since_maintenance = 0

    def _retry_after(self, pause: float) -> None:
        if self._app.sync_interval and not self.stopped:
            self._retry = self._app.reactor.callLater(pause, self.ask_quietly, Request("backstop"))

    def _cancel_retry(self) -> None:
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
