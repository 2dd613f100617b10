"""One round of a mirror: ask the remote, move refs, announce the changes, and record how it ended."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError

from stackit import AccessProblem, App, ManagedRepo, Occurrence, RefChange, StackitError
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.sync.announcer import RefAnnouncer
from stackit.plugins.mirror.sync.fallback import Fallback
from stackit.plugins.mirror.sync.fast_fetch import MOST_REFS
from stackit.plugins.mirror.sync.refresh import Outcome, Refresher
from stackit.plugins.mirror.sync.requests import (
    FOREGROUND,
    REMOTE_CAUSES,
    Request,
    RoundResult,
    Stopping,
    targets_of,
)
from stackit.plugins.mirror.sync.slot_holder import SlotHolder
from stackit.plugins.mirror.sync.status import SyncStatus

MANY = 1000
"""Changes of one round that are worth packing refs at the next idle moment."""
NEVER_MAINTAINED = 1000
"""``fetches_since_maintenance`` of a mirror that was just cloned, or whose history since the start is unknown."""


class _Attempt:
    """The state of a round while it runs."""

    def __init__(self, requests: Sequence[Request], *, new: bool, inherited: bool) -> None:
        """``new``: there is no mirror yet. ``inherited``: it was another node's, and may be older than that."""
        self.request = min(requests, key=lambda each: REMOTE_CAUSES.index(each.cause))
        # Nobody missed anything of a mirror that was not there: a later attempt of its first clone is a start, too.
        self.cause = "start" if (new or inherited) and self.request.cause == "backstop" else self.request.cause
        self.accept = any(each.accept for each in requests)
        self.full = new or inherited or any(each.full for each in requests)
        self.targets = targets_of(requests)
        self.outcome = Outcome(full=False)
        self.changes: tuple[RefChange, ...] = ()
        self.announced = False
        """True once all that this round changed is announced."""


class RoundRunner:
    """Runs the rounds that ask the remote of one repository.

    ``retry`` is called with a pause in seconds after a round that failed. ``stop_error`` makes the error of a round
    that was cancelled.
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
        retry: Callable[[float], None],
        stop_error: Callable[[], StackitError],
    ) -> None:
        self.fetches_since_maintenance = NEVER_MAINTAINED
        self._app = app
        self._managed = managed
        self._refresher = refresher
        self._announcer = announcer
        self._status = status
        self._slot = slot
        self._retry = retry
        self._stop_error = stop_error

    async def run(self, requests: Sequence[Request]) -> RoundResult:
        """Run one round for all of these requests. Raises StackitError if it failed, Stopping if a stop ended it."""
        began = self._app.reactor.seconds()
        self._status.started(began)
        attempt = _Attempt(requests, new=not self._refresher.directory.exists(), inherited=self._announcer.inherited)
        problem = await self._problem_of(attempt)
        if isinstance(problem, Stopping):
            raise problem  # which tells nothing of the remote
        if problem is None:
            self._succeeded(attempt)
        else:
            self._failed(problem)
        self._observe(attempt, began, problem)
        if isinstance(problem, StackitError):
            raise problem
        if problem is not None:
            raise StackitError(_one_line(problem)) from problem
        return RoundResult(attempt.changes, self._status.unequal if attempt.outcome.full else None)

    async def _problem_of(self, attempt: _Attempt) -> StackitError | OSError | None:
        """Run the attempt, and return the reason of its failure; None if it succeeded."""
        try:
            await self._fetch_and_announce(attempt)
        except (StackitError, OSError) as problem:
            return problem
        except CancelledError:
            if self._slot.made_way:
                return GitError("no progress, and others wait: git was ended", kind="stalled", killed=True)
            return self._stop_error()
        return None

    async def _fetch_and_announce(self, attempt: _Attempt) -> None:
        try:
            if self._announcer.inherited:
                with contextlib.suppress(GitError, PermissionError):
                    await self._announcer.take_over()
            elif not self._announcer.has_baseline:
                # Changes before this start, by a crash or by hand, are not this round's doing.
                # A mirror that cannot be read may be mended by the fetch, which else gives the reason.
                with contextlib.suppress(GitError, PermissionError):
                    await self._announcer.announce_all("start", None)
            if attempt.full or not attempt.targets or not await self._fetch_targets(attempt):
                await self._refresh(attempt)
        finally:
            # A fetch that failed, or was ended half way, may have moved refs as well.
            if not attempt.announced:
                attempt.changes = await self._announcer.announce_all(attempt.cause, attempt.request.delivery)

    async def _fetch_targets(self, attempt: _Attempt) -> bool:
        """Fetch the pushed refs and no others, and announce them; False if all refs have to be fetched."""
        try:
            if not self._announcer.all_announced or not self._refresher.is_identified:
                raise Fallback("unsettled", needs_all_refs=True)
            if len(attempt.targets) > MOST_REFS:
                raise Fallback("many_refs", needs_all_refs=True)
            try:
                attempt.changes = await self._fetch_fast(attempt)
            except Fallback as fallback:
                if fallback.needs_all_refs:
                    raise
                self._observe_fallback(attempt, fallback)
                attempt.changes = await self._fetch_targets_by_git(attempt)
        except Fallback as fallback:
            self._observe_fallback(attempt, fallback)
            return False
        attempt.announced = True
        return True

    async def _fetch_fast(self, attempt: _Attempt) -> tuple[RefChange, ...]:
        changes = await self._refresher.fast_fetch(self._announcer.refs, attempt.targets)
        await self._announcer.announce_moves(changes, attempt.request.cause, attempt.request.delivery)
        return changes

    async def _fetch_targets_by_git(self, attempt: _Attempt) -> tuple[RefChange, ...]:
        await self._slot.enter("push")
        await self._refresher.fetch_targets(self._announcer.refs, attempt.targets)
        return await self._announcer.announce_only(attempt.targets, attempt.request.cause, attempt.request.delivery)

    async def _refresh(self, attempt: _Attempt) -> None:
        """Fetch all refs."""
        cause = attempt.request.cause
        expected, attempt.targets = tuple(attempt.targets), {}
        if self._refresher.directory.exists():
            await self._slot.enter("push" if cause in FOREGROUND else "background")
        attempt.outcome = await self._refresher.refresh(
            full=attempt.full,
            accept=attempt.accept,
            quick=cause not in FOREGROUND and self._announcer.has_baseline,
            timeouts=self._status.timeouts,
            expected=expected,
        )
        self._announcer.inherited = self._announcer.inherited and not attempt.outcome.full
        attempt.announced = attempt.outcome.untouched

    def _succeeded(self, attempt: _Attempt) -> None:
        outcome, changes = attempt.outcome, attempt.changes
        self._status.succeeded(full=outcome.full, held=outcome.held, missing=outcome.missing, refs=attempt.targets)
        # Thousands of refs that moved at once are thousands of files until they are packed.
        worth = len(changes) // MANY + self._refresher.growth.is_too_much
        self.fetches_since_maintenance += bool(changes) + worth * NEVER_MAINTAINED

    def _failed(self, problem: StackitError | OSError) -> None:
        kind, retry_after = (problem.kind, problem.retry_after) if isinstance(problem, GitError) else (None, None)
        self._retry(self._status.failed(self._app.redact(_one_line(problem)), kind, retry_after))

    def _observe(self, attempt: _Attempt, began: float, problem: StackitError | OSError | None) -> None:
        status = self._status
        self._app.observe(
            Occurrence(
                name="synced",
                repo=self._managed.repo,
                cause=attempt.request.cause,
                delivery=attempt.request.delivery,
                outcome=_outcome(problem, attempt.changes),
                # The pushes that wait for this round are not counted: they learn of it only now.
                state=status.state(exists=self._refresher.directory.exists(), pending=0, access=self._access),
                seconds=self._app.reactor.seconds() - began,
                count=len(attempt.changes),
                error=status.error or (status.unequal if attempt.outcome.full else None),
                missing=None if status.missing is None else len(status.missing.refs),
            )
        )

    @property
    def _access(self) -> AccessProblem | None:
        source = self._announcer.managed.token_source
        return None if source is None else source.problem

    def _observe_fallback(self, attempt: _Attempt, fallback: Fallback) -> None:
        delivery, reason = attempt.request.delivery, fallback.reason
        self._app.observe(Occurrence(name="fallback", repo=self._managed.repo, delivery=delivery, reason=reason))


def _one_line(problem: StackitError | OSError) -> str:
    if isinstance(problem, OSError):
        return f"{problem.strerror or problem}: {problem.filename}" if problem.filename else str(problem)
    return str(problem)


def _outcome(problem: StackitError | OSError | None, changes: tuple[RefChange, ...]) -> str:
    if problem is None:
        return "changed" if changes else "unchanged"
    return "timeout" if isinstance(problem, GitError) and problem.kind == "stalled" else "failed"
