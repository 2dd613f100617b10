"""The mirror of one repository: rounds of fetching, and telling exactly what each of them changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import CancelledError

from stackit import App, ManagedRepo, Occurrence, RefChange, StackitError
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.snapshot import Snapshot
from stackit.plugins.mirror.remote.client import Remote
from stackit.plugins.mirror.repository.disk_space import DiskReserve
from stackit.plugins.mirror.repository.fsck import FsckSlots
from stackit.plugins.mirror.settings import MirrorSettings
from stackit.plugins.mirror.sync.announcer import RefAnnouncer
from stackit.plugins.mirror.sync.coalescer import Coalescer
from stackit.plugins.mirror.sync.fast_fetch import MOST_REFS, Fallback, Target
from stackit.plugins.mirror.sync.fetch_slots import FetchSlots, Kind
from stackit.plugins.mirror.sync.refresh import Outcome, Refresher
from stackit.plugins.mirror.sync.slot_holder import SlotHolder
from stackit.plugins.mirror.sync.status import State, SyncStatus

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

_CAUSES = ("push", "manual", "start", "backstop")
_FOREGROUND = ("push", "manual")
"""The causes that somebody waits for."""
MANY = 1000
"""Changes of one round that are worth packing refs at the next idle moment."""
_NEVER_MAINTAINED = 1000
"""``fetches_since_maintenance`` of a mirror that was just cloned, or whose history since the start is unknown."""


class Request(msgspec.Struct, frozen=True):
    """Why a round is asked for, and by which delivery.

    ``push``, ``manual``, ``start`` and ``backstop`` ask the remote; ``compare`` only tells what changed,
    ``maintenance`` is maintenance. ``full``: compare all refs with the remote, deletions included. ``accept``: a person
    accepts deletions, however many. ``target``: the commit that a push announced, and where.
    """

    cause: str
    delivery: str | None = None
    full: bool = True
    accept: bool = False
    target: Target | None = None


class Round(msgspec.Struct, frozen=True):
    """What a round that succeeded did.

    ``unequal`` is why the mirror is not equal to its remote all the same, where that is so: it keeps refs that are
    gone there, or cannot hold some.
    """

    changes: tuple[RefChange, ...] = ()
    unequal: str | None = None


class MirrorWorker:
    """Keeps the mirror of one repository. The only one to run git in it."""

    def __init__(
        self,
        app: App,
        git: Git,
        slots: FetchSlots,
        managed: ManagedRepo,
        settings: MirrorSettings,
        checks: FsckSlots,
        disk: DiskReserve,
        remote: Remote | None = None,
    ) -> None:
        """``remote`` is for what goes without git; None where the URL is not HTTP."""
        self.managed = managed
        self.status = SyncStatus(app.reactor, app.now)
        self.pending_pushes = 0
        """Pushes that were received and are not known to be in the mirror yet."""
        self.fetches_since_maintenance = _NEVER_MAINTAINED
        """Fetches since git's own maintenance."""
        self._app = app
        self._remote = remote
        self._slot = SlotHolder(slots, managed.url, end=self._end_round, suspect=self._is_suspect)
        self._refresher = Refresher(
            app, git, managed, settings, slot=self._slot, checks=checks, disk=disk, remote=remote
        )
        self._announcer = RefAnnouncer(app, git, managed, self._refresher)
        self.directory = self._refresher.directory
        self._recheck: DelayedCall | None = None
        self._retry: DelayedCall | None = None
        self._maintaining = False
        self.rounds: Coalescer[Request, Round] = Coalescer(
            app.reactor, self._round, self._wait_for_slot, settings.debounce
        )

    @property
    def refs(self) -> Snapshot:
        """All refs, as they were last seen or moved."""
        return self._announcer.refs

    @property
    def all_announced(self) -> bool:
        """Whether everything that is known of the refs has been told."""
        return self._announcer.all_announced

    @property
    def state(self) -> State:
        return self._state(pending_pushes=self.pending_pushes)

    def _state(self, pending_pushes: int) -> State:
        if self.status.quarantined:
            return "quarantined"
        if self.status.error is not None:
            return "failing"
        if not self.directory.exists():
            return "cloning"
        behind = pending_pushes or self.status.unequal or self.status.verified_at is None
        return "behind" if behind else "in_step"

    async def sync(
        self,
        cause: str,
        delivery: str | None = None,
        *,
        full: bool = True,
        accept: bool = False,
        target: Target | None = None,
        since: float | None = None,
    ) -> Round:
        """Run a round that starts after this call. Raises StackitError with the reason if it failed.

        The round that runs is joined if it began after ``since``, by the reactor's clock, and asks for as much.
        """
        if cause in _FOREGROUND:
            self.status.release()
        if self._maintaining:
            self.rounds.cancel()  # what it did so far is not lost, and the rest can wait
        request = Request(cause, delivery, full, accept, target)
        if since is not None and self.status.tried_since(since) and self._runs_for(request):
            answer = self.rounds.join()
        else:
            answer = self.rounds.ask(request, urgent=cause != "push")
        if cause in _FOREGROUND:
            self._slot.prioritise()
        return await answer

    def _runs_for(self, request: Request) -> bool:
        """True if the round that runs asks the remote for all that this request asks for."""
        running = [each for each in self.rounds.running if each.cause in _CAUSES]
        if request.full:
            return any(each.full for each in running)
        targets = _targets(running)
        return bool(running) and (not targets or (request.target is not None and request.target.ref in targets))

    def expect(self, delivery: str, target: Target) -> None:
        """Begin a round for what a push announces, if nothing is in its way; ``sync`` can join it."""
        if not self.rounds.busy and self.all_announced and self.status.error is None:
            self._ask_quietly(Request("push", delivery, full=False, target=target))

    @property
    def quiet_until(self) -> float:
        """Until when the remote's host wants to be asked less, by the reactor's clock."""
        return 0.0 if self._remote is None else self._remote.quiet_until

    async def is_unchanged(self) -> bool:
        """Whether a look at the remote, without a round, told that nothing is new. False: a round has to tell."""
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
        """Tell what changed since it was told last, without asking the remote."""
        await self.rounds.ask(Request("compare", full=False), urgent=True)

    async def maintain(self) -> None:
        """Run git's own maintenance, as a round; a push or a person ends it. Raises StackitError."""
        await self.rounds.ask(Request("maintenance", full=False), urgent=True)

    def tidy(self) -> None:
        """Throw away what takes room and is nobody's."""
        if not self.rounds.busy:
            self._refresher.tidy()

    def recheck_after(self, delay: float, delivery: str | None) -> bool:
        """Have one more round after so many seconds, however often this is asked until then: False where it was."""
        if self._recheck is not None and self._recheck.active():
            return False
        self._recheck = self._app.reactor.callLater(delay, self._ask_quietly, Request("push", delivery))
        return True

    def _ask_quietly(self, request: Request) -> None:
        # The round tells by itself how it ended.
        self.rounds.ask(request).addErrback(lambda failure: failure.trap(StackitError) and None)

    def cancel_recheck(self) -> None:
        """Nobody needs to look again."""
        _cancel(self._recheck)

    def stop(self) -> None:
        """Start nothing more; a round that runs goes on."""
        self.cancel_recheck()
        _cancel(self._retry)
        self.rounds.stop()

    # -- one round ------------------------------------------------------------------

    async def _wait_for_slot(self) -> Callable[[], None]:
        asking = [request for request in self.rounds.waiting if request.cause in _CAUSES]
        if asking:  # else nobody is asked, and nothing waits for it
            await self._slot.enter(self._kind(asking))
        return self._slot.leave

    def _kind(self, asking: list[Request]) -> Kind:
        if not self.directory.exists():
            return "clone"
        if self._remote is not None and self.all_announced and all(each.target is not None for each in asking):
            return "quick"
        return "push" if any(each.cause in _FOREGROUND for each in asking) else "background"

    def _is_suspect(self) -> bool:
        """Whether the remote hung at the last attempt, so that others go first."""
        return self.status.timeouts > 0

    def _end_round(self) -> None:
        self.rounds.cancel()

    async def _round(self, requests: list[Request]) -> Round:
        asking = [request for request in requests if request.cause in _CAUSES]
        if not asking:
            return await self._apart(maintenance=any(request.cause == "maintenance" for request in requests))
        reactor = self._app.reactor
        began: float = reactor.seconds()
        self.status.started(began)
        _cancel(self._retry)
        request = min(asking, key=lambda each: _CAUSES.index(each.cause))
        full = any(each.full for each in asking) or not self.directory.exists()
        outcome = Outcome(full=False)
        changes: tuple[RefChange, ...] = ()
        settled = False
        targets = _targets(asking)
        problem: Exception | None = None
        try:
            try:
                if not self._announcer.has_baseline:
                    # What happened before this start, by a crash's or a person's hand, is not this round's doing.
                    # Where the mirror cannot be read, the fetch may mend it, or says why it cannot.
                    with contextlib.suppress(GitError, PermissionError):
                        await self._announcer.announce_all("start", None)
                pushed = await self._pushed(request, targets) if targets and not full else None
                if pushed is not None:
                    changes, settled = pushed, True
                else:
                    expected, targets = tuple(targets), {}
                    if self.directory.exists():
                        await self._slot.enter("push" if request.cause in _FOREGROUND else "background")
                    outcome = await self._refresher.refresh(
                        full=full,
                        accept=any(each.accept for each in asking),
                        quietly=request.cause in ("start", "backstop") and self._announcer.has_baseline,
                        timeouts=self.status.timeouts,
                        expected=expected,
                    )
                    settled = outcome.untouched
            finally:
                # Also a fetch that failed, or was ended half way, may have moved refs.
                if not settled:
                    changes = await self._announcer.announce_all(request.cause, request.delivery)
        except (StackitError, OSError) as caught:
            problem = caught
        except CancelledError:
            problem = StackitError("stackit is stopping")
            if self._slot.made_way:
                problem = GitError("no progress, and others wait: git was ended", kind="stalled", killed=True)
        if problem is None:
            # A quick round leaves what is held as it is.
            self.status.succeeded(full=outcome.full, held=outcome.held, missing=outcome.missing, refs=targets)
            # Thousands of refs that moved at once are thousands of files until they are packed.
            self.fetches_since_maintenance += (
                bool(changes) + (len(changes) // MANY + self._refresher.growth.is_too_much) * _NEVER_MAINTAINED
            )
        else:
            self._failed(problem)
        self._app.observe(
            Occurrence(
                name="synced",
                repo=self.managed.repo,
                cause=request.cause,
                delivery=request.delivery,
                outcome=_outcome(problem, changes),
                # The pushes that it answers learn of it only now.
                state=self._state(pending_pushes=0),
                seconds=reactor.seconds() - began,
                count=len(changes),
                error=self.status.error or (self.status.unequal if outcome.full else None),
                missing=None if self.status.missing is None else len(self.status.missing.refs),
            )
        )
        if problem is not None:
            raise problem if isinstance(problem, StackitError) else StackitError(_one_line(problem)) from problem
        return Round(changes, self.status.unequal if outcome.full else None)

    async def _pushed(self, request: Request, targets: Mapping[str, Target]) -> tuple[RefChange, ...] | None:
        """Bring what was pushed, and nothing else, and tell of it; None where that will not do."""
        known = self.refs
        try:
            if not self.all_announced:
                raise Fallback("unsettled", needs_all_refs=True)
            if len(targets) > MOST_REFS:
                raise Fallback("many_refs", needs_all_refs=True)
            try:
                changes = await self._refresher.fast_fetch(known, targets)
            except Fallback as fallback:
                if fallback.needs_all_refs:
                    raise
                self._observe_fallback(request, fallback)
                await self._slot.enter("push")
                await self._refresher.fetch_targets(known, targets)
                return await self._announcer.announce_only(targets, request.cause, request.delivery)
        except Fallback as fallback:
            self._observe_fallback(request, fallback)
            return None
        await self._announcer.announce_moves(changes, request.cause, request.delivery)
        return changes

    def _observe_fallback(self, request: Request, fallback: Fallback) -> None:
        self._app.observe(
            Occurrence(name="fallback", repo=self.managed.repo, delivery=request.delivery, reason=fallback.reason)
        )

    def _failed(self, problem: Exception) -> None:
        kind, retry_after = (problem.kind, problem.retry_after) if isinstance(problem, GitError) else (None, None)
        pause = self.status.failed(self._app.redact(_one_line(problem)), kind, retry_after)
        if self._app.sync_interval and not self.rounds.stopped:
            self._retry = self._app.reactor.callLater(pause, self._ask_quietly, Request("backstop"))

    async def _apart(self, *, maintenance: bool) -> Round:
        """A round that does not ask the remote."""
        if not maintenance:
            await self._announcer.announce_all("start", None)
        elif self.directory.exists():
            self._maintaining = True
            try:
                await self._refresher.maintain()
            except GitError as problem:
                if problem.kind != "memory":
                    raise
                # It would need as much at every idle moment.
                reason = f"maintenance is put off: {problem}"
                self._app.observe(Occurrence(name="notice", repo=self.managed.repo, reason=reason))
            except CancelledError:
                raise StackitError("maintenance was ended for something more urgent") from None
            finally:
                self._maintaining = False
        self.fetches_since_maintenance = 0 if maintenance else self.fetches_since_maintenance
        return Round()


def _targets(requests: list[Request]) -> dict[str, Target]:
    """What is to be brought, by ref, where every request says so exactly; the latest counts. Else nothing."""
    if any(request.target is None for request in requests):
        return {}
    return {request.target.ref: request.target for request in requests if request.target is not None}


def _cancel(call: DelayedCall | None) -> None:
    if call is not None and call.active():
        call.cancel()


def _one_line(problem: Exception) -> str:
    if isinstance(problem, OSError):
        return f"{problem.strerror or problem}: {problem.filename}" if problem.filename else str(problem)
    return str(problem)


def _outcome(problem: Exception | None, changes: tuple[RefChange, ...]) -> str:
    if problem is None:
        return "changed" if changes else "unchanged"
    return "timeout" if isinstance(problem, GitError) and problem.kind == "stalled" else "failed"
