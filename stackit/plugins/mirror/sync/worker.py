"""The worker of one repository's mirror: what others ask of it, and its state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from stackit import App, ManagedRepo, MirrorInfo, Occurrence, StackitError, rfc3339
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.remote.client import Remote
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fsck import FsckSlots
from stackit.plugins.mirror.sync.announcer import RefAnnouncer
from stackit.plugins.mirror.sync.fast_fetch import Target
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots
from stackit.plugins.mirror.sync.peer_clone import Peers, no_peers
from stackit.plugins.mirror.sync.refresh import Refresher
from stackit.plugins.mirror.sync.requests import FOREGROUND, Request, RoundResult, Stopping
from stackit.plugins.mirror.sync.round_queue import RoundQueue
from stackit.plugins.mirror.sync.settings import SyncSettings
from stackit.plugins.mirror.sync.slot_holder import SlotHolder
from stackit.plugins.mirror.sync.status import State, SyncStatus
from stackit.plugins.mirror.sync.tunables import Tunables

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall


class MirrorWorker:
    """Keeps the mirror of one repository. Nothing else writes to it."""

    def __init__(
        self,
        app: App,
        git: Git,
        slots: FetchSlots,
        managed: ManagedRepo,
        settings: SyncSettings,
        *,
        fsck_slots: FsckSlots,
        disk: DiskReserve,
        tunables: Tunables,
        remote: Remote | None = None,
        inherited: bool = False,
        peers: Peers = no_peers,
    ) -> None:
        """``remote`` is for requests without git; None if the URL is not HTTP.

        ``inherited``: another node had the mirror last, and what is on disk may be older. ``peers`` are asked for a
        first clone before the remote.
        """
        self.managed = managed
        """The settings of the repository, by which its rounds go."""
        self.status = SyncStatus(app.reactor, app.fleet_now, first_pause=tunables.first_pause)
        self.pending_pushes = 0
        """Pushes that were received and are not known to be in the mirror yet."""
        self._app = app
        self._remote = remote
        self._slot = SlotHolder(slots, managed.url, end=self._cancel_round, suspect=lambda: self.status.timeouts > 0)
        self._refresher = Refresher(
            app,
            git,
            managed,
            settings,
            slot=self._slot,
            fsck_slots=fsck_slots,
            disk=disk,
            tunables=tunables,
            remote=remote,
            peers=peers,
        )
        self._announcer = RefAnnouncer(app, git, managed, self._refresher, inherited=inherited)
        self.rounds = RoundQueue(
            app,
            managed,
            refresher=self._refresher,
            announcer=self._announcer,
            status=self.status,
            slot=self._slot,
            has_fast_fetch=remote is not None,
            debounce=settings.debounce,
            renew=self._renew,
        )
        self.directory = self._refresher.directory
        self._was_there = False
        self._recheck: DelayedCall | None = None
        self._next: tuple[ManagedRepo, Remote | None] | None = None

    @property
    def refs(self) -> Snapshot:
        """All refs, as they were last read or moved."""
        return self._announcer.refs

    @property
    def all_announced(self) -> bool:
        """True if every known change of a ref has been announced."""
        return self._announcer.all_announced

    @property
    def fetches_since_maintenance(self) -> int:
        """Fetches that changed something since git's own maintenance; many if that is unknown."""
        return self.rounds.runner.fetches_since_maintenance

    @property
    def state(self) -> State:
        return self._state(exists=self.directory.exists())

    @property
    def presumed_state(self) -> State:
        """The state, without a look at the disk for a mirror that was there before: for thousands of them at once."""
        self._was_there = self._was_there or self.status.verified_at is not None or self.directory.exists()
        return self._state(exists=self._was_there)

    @property
    def settled_state(self) -> State:
        """The state as the last round left it, whatever pushes have come since."""
        return self._state(exists=self.directory.exists(), pending=0)

    @property
    def problem(self) -> str | None:
        """The reason why the mirror is not equal to its remote, and since when; None if no difference is known."""
        status = self.status
        error = status.error or status.unequal
        if error is None and self.state in ("suspended", "no_access"):  # known before a round has met it
            app = self.managed.app
            giver = "whoever makes its tokens" if app is None else f"App {app}"
            error = f"{giver} has no token for it now: stackit status says why"
        if status.since is not None:
            error = f"{error} (since {rfc3339(status.since)})"
        return error

    @property
    def is_inherited(self) -> bool:
        """True while the mirror on disk may be older than what was announced, by another node."""
        return self._announcer.inherited

    def _state(self, *, exists: bool, pending: int | None = None) -> State:
        source = self.managed.token_source
        access = None if source is None else source.problem
        pending = self.pending_pushes if pending is None else pending
        return self.status.state(exists=exists, pending=pending, access=access)

    async def all_refs(self) -> Snapshot:
        """Return all refs: as they are known, or read from the disk before the first round. Raises GitError."""
        if self._announcer.has_baseline or not self.directory.exists():
            return self.refs
        return await self._refresher.refs()

    @property
    def head(self) -> str | None:
        """The ref that HEAD names; None without one."""
        return self._refresher.head

    def info(self) -> MirrorInfo:
        """Return the mirror as other plugins see it."""
        return MirrorInfo(
            repo=self.managed.repo,
            path=self.directory,
            exists=self.directory.exists(),
            state=self.state,
            verified_at=self.status.verified_at,
            arriving=self.is_inherited and self.problem is None,
        )

    @property
    def quiet_until(self) -> float:
        """The end of the silence that the remote's host asked for, by the reactor's clock; 0.0 if it did not."""
        return 0.0 if self._remote is None else self._remote.quiet_until

    # -- requests ---------------------------------------------------------------------

    async def sync(
        self,
        cause: str,
        delivery: str | None = None,
        *,
        full: bool = True,
        accept: bool = False,
        target: Target | None = None,
        since: float | None = None,
    ) -> RoundResult:
        """Run a round that starts after this call. Raises StackitError with the reason if it failed.

        The round that runs is joined if it began after ``since``, by the reactor's clock, and asks for as much.
        """
        if cause in FOREGROUND:
            self.status.release()
        if self.rounds.maintaining:
            self.rounds.cancel()  # what it did so far is not lost, and the rest can wait
        request = Request(cause, delivery, full, accept, target)
        if since is not None and self.status.tried_since(since) and self.rounds.covers(request):
            answer = self.rounds.join()
        else:
            answer = self.rounds.ask(request, urgent=cause != "push")
        if cause in FOREGROUND:
            self._slot.prioritise()
        return await answer

    def expect(self, delivery: str, target: Target) -> None:
        """Start a round for an announced push, if the worker is idle and well; ``sync`` can join it."""
        if not self.rounds.busy and self.all_announced and self.status.error is None:
            self.rounds.ask_quietly(Request("push", delivery, full=False, target=target))

    async def is_unchanged(self) -> bool:
        """Ask the remote with one request, without a round; False if only a round can tell."""
        status, began = self.status, self._app.reactor.seconds()
        if not self.all_announced or self.rounds.busy or status.error or status.unequal or status.verified_at is None:
            return False
        if not await self._refresher.is_unchanged():
            return False
        if not self.rounds.busy and status.started_at < began:  # else a round tells, and knows more
            status.started(began)
            status.succeeded(full=True)
            self._app.observe(
                Occurrence(
                    name="synced",
                    repo=self.managed.repo,
                    cause="backstop",
                    outcome="unchanged",
                    state="in_step",
                    seconds=self._app.reactor.seconds() - began,
                    count=0,
                )
            )
        return True

    async def compare(self) -> None:
        """Announce the changes since the last announcement, without asking the remote. Raises StackitError.

        For one that was inherited, ``all_announced`` tells then whether it has exactly what was announced.
        """
        await self.rounds.ask(Request("compare", full=False), urgent=True)

    async def maintain(self) -> None:
        """Run git's own maintenance as a round, which a push or a person ends. Raises StackitError."""
        await self.rounds.ask(Request("maintenance", full=False), urgent=True)

    def tidy(self) -> None:
        """Remove leftovers of earlier gits, if no round runs."""
        if not self.rounds.busy:
            self._refresher.housekeeping.tidy()

    def recheck_after(self, delay: float, delivery: str | None) -> bool:
        """Ask for one more round after ``delay`` seconds; False if one is due already."""
        if self._recheck is not None and self._recheck.active():
            return False
        self._recheck = self._app.reactor.callLater(delay, self.rounds.ask_quietly, Request("push", delivery))
        return True

    def cancel_recheck(self) -> None:
        if self._recheck is not None and self._recheck.active():
            self._recheck.cancel()

    def change(self, managed: ManagedRepo, remote: Remote | None) -> None:
        """Follow the repository by other settings from the next round on, and ask for that round if it makes sense."""
        before = self.managed if self._next is None else self._next[0]
        self._next = managed, remote
        if not self.rounds.running:
            self._renew()
        if _as_fetched(before) == _as_fetched(managed):
            return
        self.status.release()  # a remote that was gone, or forbidden, may not be so any more
        self.rounds.ask_quietly(Request("backstop"))

    def access_returned(self) -> None:
        """Ask the remote now: there are tokens for it again, and what happened meanwhile was told to nobody."""
        self.status.access_returned()
        self.rounds.ask_quietly(Request("backstop"))

    def change_settings(self, settings: SyncSettings) -> None:
        """Take other settings of all mirrors, from the next fetch on."""
        self._refresher.change_settings(settings)
        self.rounds.debounce = settings.debounce

    def _renew(self) -> None:
        """Take the settings that are to hold from this round on."""
        if self._next is None:
            return
        (self.managed, self._remote), self._next = self._next, None
        self._refresher.change(self.managed, self._remote)
        self._announcer.managed = self.managed
        self._slot.change_url(self.managed.url)
        self.rounds.has_fast_fetch = self._remote is not None

    def stop(self, error: Callable[[], StackitError] = Stopping) -> None:
        """Start nothing more; a round that runs goes on."""
        self.cancel_recheck()
        self.rounds.stop(error)

    def leave(self, error: Callable[[], StackitError]) -> None:
        """Stop, end the round that runs, and announce nothing more. ``rounds.idle`` tells when the mirror is left."""
        self.stop(error)
        self.announce_nothing(error)
        self.rounds.cancel()

    def announce_nothing(self, error: Callable[[], StackitError]) -> None:
        """Have what would be announced from now on fail with ``error()``."""
        self._announcer.close(error)

    def _cancel_round(self) -> None:
        self.rounds.cancel()


def _as_fetched(managed: ManagedRepo) -> ManagedRepo:
    """Return a repository without what makes no difference to a fetch."""
    return msgspec.structs.replace(managed, id=None, realm="", source="file", added_by="", former=())
