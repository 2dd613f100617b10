"""The mirror of one repository: rounds of fetching, and telling exactly what each of them changed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import CancelledError

from stackit import App, ManagedRepo, Occurrence, RefChange, StackitError
from stackit.plugins.mirror.git.runner import Git, GitError
from stackit.plugins.mirror.remote.client import Remote
from stackit.plugins.mirror.repository.disk_space import Room
from stackit.plugins.mirror.repository.fsck import Checks
from stackit.plugins.mirror.repository.refs import Snapshot
from stackit.plugins.mirror.settings import MirrorSettings
from stackit.plugins.mirror.sync.announcer import Telling
from stackit.plugins.mirror.sync.coalescer import Coalescer
from stackit.plugins.mirror.sync.fast_fetch import MOST_REFS, Detour, Target
from stackit.plugins.mirror.sync.fetch_slots import Kind, Places
from stackit.plugins.mirror.sync.holding import Holding
from stackit.plugins.mirror.sync.refresh import Outcome, Refresher
from stackit.plugins.mirror.sync.status import Standing, State

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

_CAUSES = ("push", "manual", "start", "backstop")
_AWAITED = ("push", "manual")
"""The causes that somebody waits for."""
MANY = 1000
"""Changes of one round that are worth packing refs at the next idle moment."""
_NEVER_WORN = 1000
"""How worn a mirror counts that was just cloned, or that nothing is known of since the start."""


class Request(msgspec.Struct, frozen=True):
    """Why a round is asked for, and by which delivery.

    ``push``, ``manual``, ``start`` and ``backstop`` ask the remote; ``compare`` only tells what changed,
    ``upkeep`` is maintenance. ``look``: compare all refs with the remote, deletions included. ``accept``: a person
    accepts deletions, however many. ``target``: the commit that a push announced, and where.
    """

    cause: str
    delivery: str | None = None
    look: bool = True
    accept: bool = False
    target: Target | None = None


class Round(msgspec.Struct, frozen=True):
    """What a round that succeeded did.

    ``unequal`` is why the mirror is not equal to its remote all the same, where that is so: it keeps refs that are
    gone there, or cannot hold some.
    """

    changes: tuple[RefChange, ...] = ()
    unequal: str | None = None


class Keeper:
    """Keeps the mirror of one repository. The only one to run git in it."""

    def __init__(
        self,
        app: App,
        git: Git,
        places: Places,
        managed: ManagedRepo,
        settings: MirrorSettings,
        checks: Checks,
        room: Room,
        remote: Remote | None = None,
    ) -> None:
        """``remote`` is for what goes without git; None where the URL is not HTTP."""
        self.managed = managed
        self.standing = Standing(app.reactor, app.now)
        self.awaited = 0
        """Pushes that were received and are not known to be in the mirror yet."""
        self.worn = _NEVER_WORN
        """Fetches since git's own maintenance."""
        self._app = app
        self._remote = remote
        self._holding = Holding(places, managed.url, end=self._make_way, doubtful=self._is_doubtful)
        self._refresher = Refresher(
            app, git, managed, settings, holding=self._holding, checks=checks, room=room, remote=remote
        )
        self._telling = Telling(app, git, managed, self._refresher)
        self.directory = self._refresher.directory
        self._again: DelayedCall | None = None
        self._retry: DelayedCall | None = None
        self._maintaining = False
        self.rounds: Coalescer[Request, Round] = Coalescer(app.reactor, self._round, self._turn, settings.debounce)

    @property
    def refs(self) -> Snapshot:
        """All refs, as they were last seen or moved."""
        return self._telling.refs

    @property
    def settled(self) -> bool:
        """Whether everything that is known of the refs has been told."""
        return self._telling.settled

    @property
    def state(self) -> State:
        return self._state(awaited=self.awaited)

    def _state(self, awaited: int) -> State:
        if self.standing.quarantined:
            return "quarantined"
        if self.standing.error is not None:
            return "failing"
        if not self.directory.exists():
            return "cloning"
        behind = awaited or self.standing.unequal or self.standing.verified_at is None
        return "behind" if behind else "in_step"

    async def sync(
        self,
        cause: str,
        delivery: str | None = None,
        *,
        look: bool = True,
        accept: bool = False,
        target: Target | None = None,
        expected: bool = False,
    ) -> Round:
        """A round that starts after this call. Raises StackitError with the reason where it failed.

        The one that runs will do where ``expected``, and it was asked for just this, as ``expect`` does it.
        """
        if cause in _AWAITED:
            self.standing.release()
        if self._maintaining:
            self.rounds.cancel()  # what it did so far is not lost, and the rest can wait
        request = Request(cause, delivery, look, accept, target)
        answer = self.rounds.join(request) if expected else None
        if answer is None:
            answer = self.rounds.ask(request, urgent=cause != "push")
        if cause in _AWAITED:
            self._holding.hurry()
        return await answer

    def expect(self, delivery: str, target: Target) -> None:
        """Begin a round for what a push announces, if nothing is in its way; ``sync`` can join it."""
        if not self.rounds.busy and self.settled and self.standing.error is None:
            self._ask_quietly(Request("push", delivery, look=False, target=target))

    @property
    def quiet_until(self) -> float:
        """Until when the remote's host wants to be asked less, by the reactor's clock."""
        return 0.0 if self._remote is None else self._remote.quiet_until

    async def glance(self) -> bool:
        """Whether a look at the remote, without a round, told that nothing is new. False: a round has to tell."""
        standing, began = self.standing, self._app.reactor.seconds()
        if not self.settled or self.rounds.busy or standing.error or standing.unequal or standing.verified_at is None:
            return False
        if not await self._refresher.glance():
            return False
        if not self.rounds.busy and standing.started_at < began:  # else a round tells, and knows more
            standing.started(began)
            standing.succeeded(looked=True)
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
        await self.rounds.ask(Request("compare", look=False), urgent=True)

    async def maintain(self) -> None:
        """Run git's own maintenance, as a round; a push or a person ends it. Raises StackitError."""
        await self.rounds.ask(Request("upkeep", look=False), urgent=True)

    def tidy(self) -> None:
        """Throw away what takes room and is nobody's."""
        if not self.rounds.busy:
            self._refresher.tidy()

    def look_again(self, delay: float, delivery: str | None) -> bool:
        """Have one more round after so many seconds, however often this is asked until then: False where it was."""
        if self._again is not None and self._again.active():
            return False
        self._again = self._app.reactor.callLater(delay, self._ask_quietly, Request("push", delivery))
        return True

    def _ask_quietly(self, request: Request) -> None:
        # The round tells by itself how it ended.
        self.rounds.ask(request).addErrback(lambda failure: failure.trap(StackitError) and None)

    def never_mind(self) -> None:
        """Nobody needs to look again."""
        _cancel(self._again)

    def stop(self) -> None:
        """Start nothing more; a round that runs goes on."""
        self.never_mind()
        _cancel(self._retry)
        self.rounds.stop()

    # -- one round ------------------------------------------------------------------

    async def _turn(self) -> Callable[[], None]:
        asking = [request for request in self.rounds.waiting if request.cause in _CAUSES]
        if asking:  # else nobody is asked, and nothing waits for it
            await self._holding.enter(self._kind(asking))
        return self._holding.leave

    def _kind(self, asking: list[Request]) -> Kind:
        if not self.directory.exists():
            return "clone"
        if self._remote is not None and self.settled and all(each.target is not None for each in asking):
            return "quick"
        return "push" if any(each.cause in _AWAITED for each in asking) else "look"

    def _is_doubtful(self) -> bool:
        """Whether the remote hung at the last attempt, so that others go first."""
        return self.standing.timeouts > 0

    def _make_way(self) -> None:
        self.rounds.cancel()

    async def _round(self, requests: list[Request]) -> Round:
        asking = [request for request in requests if request.cause in _CAUSES]
        if not asking:
            return await self._apart(upkeep=any(request.cause == "upkeep" for request in requests))
        reactor = self._app.reactor
        began: float = reactor.seconds()
        self.standing.started(began)
        _cancel(self._retry)
        request = min(asking, key=lambda each: _CAUSES.index(each.cause))
        look = any(each.look for each in asking) or not self.directory.exists()
        outcome = Outcome(looked=False)
        changes: tuple[RefChange, ...] = ()
        settled = False
        targets = _targets(asking)
        problem: Exception | None = None
        try:
            try:
                if not self._telling.begun:
                    # What happened before this start, by a crash's or a person's hand, is not this round's doing.
                    # Where the mirror cannot be read, the fetch may mend it, or says why it cannot.
                    with contextlib.suppress(GitError, PermissionError):
                        await self._telling.settle("start", None)
                pushed = await self._pushed(request, targets) if targets and not look else None
                if pushed is not None:
                    changes, settled = pushed, True
                else:
                    expected, targets = tuple(targets), {}
                    if self.directory.exists():
                        await self._holding.enter("push" if request.cause in _AWAITED else "look")
                    outcome = await self._refresher.refresh(
                        look=look,
                        accept=any(each.accept for each in asking),
                        quietly=request.cause in ("start", "backstop") and self._telling.begun,
                        timeouts=self.standing.timeouts,
                        expected=expected,
                    )
                    settled = outcome.untouched
            finally:
                # Also a fetch that failed, or was ended half way, may have moved refs.
                if not settled:
                    changes = await self._telling.settle(request.cause, request.delivery)
        except (StackitError, OSError) as caught:
            problem = caught
        except CancelledError:
            problem = StackitError("stackit is stopping")
            if self._holding.made_way:
                problem = GitError("no progress, and others wait: git was ended", kind="stalled", killed=True)
        if problem is None:
            # A quick round leaves what is held as it is.
            self.standing.succeeded(looked=outcome.looked, held=outcome.held, missing=outcome.missing, refs=targets)
            # Thousands of refs that moved at once are thousands of files until they are packed.
            self.worn += bool(changes) + (len(changes) // MANY + self._refresher.growth.is_too_much) * _NEVER_WORN
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
                state=self._state(awaited=0),
                seconds=reactor.seconds() - began,
                count=len(changes),
                error=self.standing.error or (self.standing.unequal if outcome.looked else None),
                missing=None if self.standing.missing is None else len(self.standing.missing.refs),
            )
        )
        if problem is not None:
            raise problem if isinstance(problem, StackitError) else StackitError(_one_line(problem)) from problem
        return Round(changes, self.standing.unequal if outcome.looked else None)

    async def _pushed(self, request: Request, targets: Mapping[str, Target]) -> tuple[RefChange, ...] | None:
        """Bring what was pushed, and nothing else, and tell of it; None where that will not do."""
        known = self.refs
        try:
            if not self.settled:
                raise Detour("unsettled", wide=True)
            if len(targets) > MOST_REFS:
                raise Detour("many_refs", wide=True)
            try:
                changes = await self._refresher.travel(known, targets)
            except Detour as detour:
                if detour.wide:
                    raise
                self._observe_detour(request, detour)
                await self._holding.enter("push")
                await self._refresher.fetch(known, targets)
                return await self._telling.settle_only(targets, request.cause, request.delivery)
        except Detour as detour:
            self._observe_detour(request, detour)
            return None
        await self._telling.moved(changes, request.cause, request.delivery)
        return changes

    def _observe_detour(self, request: Request, detour: Detour) -> None:
        self._app.observe(
            Occurrence(name="detour", repo=self.managed.repo, delivery=request.delivery, reason=detour.reason)
        )

    def _failed(self, problem: Exception) -> None:
        kind, retry_after = (problem.kind, problem.retry_after) if isinstance(problem, GitError) else (None, None)
        pause = self.standing.failed(self._app.redact(_one_line(problem)), kind, retry_after)
        if self._app.sync_interval and not self.rounds.stopped:
            self._retry = self._app.reactor.callLater(pause, self._ask_quietly, Request("backstop"))

    async def _apart(self, *, upkeep: bool) -> Round:
        """A round that does not ask the remote."""
        if not upkeep:
            await self._telling.settle("start", None)
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
        self.worn = 0 if upkeep else self.worn
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
