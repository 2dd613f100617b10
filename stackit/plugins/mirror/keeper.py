"""The mirror of one repository: rounds of fetching, and telling exactly what each of them changed."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from twisted.internet.defer import CancelledError, Deferred

from stackit import App, ManagedRepo, Occurrence, RefChange, StackitError
from stackit.plugins.mirror.coalescer import Coalescer
from stackit.plugins.mirror.git import Git, GitError
from stackit.plugins.mirror.refs import Snapshot, changes_between
from stackit.plugins.mirror.slots import Slot, Slots
from stackit.plugins.mirror.standing import Standing, State
from stackit.plugins.mirror.sweep import empty_files, leftovers, unfinished_packs

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall

LEND_AFTER = 5.0
"""Seconds without progress after which a fetch no longer counts against the concurrency."""
STALL = 60.0
"""Seconds without progress after which a fetch ends, whatever its timeout."""
LONGEST = 3600.0
"""Seconds after which a first clone ends, and the most that a timeout grows to."""

_EMPTY_FILE = ("bad object", "broken ref", "is empty", "did not send all necessary objects")
_CAUSES = ("push", "manual", "start", "backstop")


class Request(msgspec.Struct, frozen=True):
    """Why a round is asked for: ``push``, ``manual``, ``start`` or ``backstop``, and by which delivery."""

    cause: str
    delivery: str | None = None


class Round(msgspec.Struct, frozen=True):
    """What a round that succeeded did; ``started_at`` is when it began to ask the remote, in epoch seconds."""

    started_at: float
    changes: tuple[RefChange, ...]


class Keeper:
    """Keeps the mirror of one repository. The only one to run git in it."""

    def __init__(
        self, app: App, git: Git, slots: Slots, managed: ManagedRepo, *, timeout: float, debounce: float
    ) -> None:
        mirrors = app.state_dir / "mirrors"
        self.managed = managed
        self.standing = Standing()
        self.refs = Snapshot()
        self.awaited = 0
        """Pushes that were received and are not known to be in the mirror yet."""
        self.directory = mirrors / managed.repo.owner / f"{managed.repo.name}.git"
        # No owner's name begins with a dot, so this can be nobody's mirror.
        self._cloning = mirrors / ".cloning" / managed.repo.owner / f"{managed.repo.name}.git"
        self._app = app
        self._git = git
        self._slots = slots
        self._place: Deferred[Slot] | None = None
        self._slot: Slot | None = None
        self._timeout = timeout
        self._announced: Snapshot | None = None
        self._again: DelayedCall | None = None
        self.rounds: Coalescer[Request, Round] = Coalescer(app.reactor, self._round, self._turn, debounce)

    @property
    def state(self) -> State:
        if self.standing.error is not None:
            return "failing"
        if not self.directory.exists():
            return "cloning"
        return "behind" if self.awaited or self.standing.verified_at is None else "in_step"

    async def sync(self, cause: str, delivery: str | None = None) -> Round:
        """A round that starts after this call. Raises StackitError with the reason where it failed."""
        answer = self.rounds.ask(Request(cause, delivery), urgent=cause != "push")
        if cause in ("push", "manual") and self._place is not None:
            self._slots.hurry(self._place)
        return await answer

    def look_again(self, delay: float, delivery: str | None) -> None:
        """Have one more round after so many seconds, however often this is asked until then."""
        if self._again is None or not self._again.active():
            self._again = self._app.reactor.callLater(delay, self._ask_quietly, delivery)

    def _ask_quietly(self, delivery: str | None) -> None:
        # The round tells by itself how it ended.
        self.rounds.ask(Request("push", delivery)).addErrback(lambda failure: failure.trap(StackitError) and None)

    def never_mind(self) -> None:
        """Nobody needs to look again."""
        if self._again is not None and self._again.active():
            self._again.cancel()

    def stop(self) -> None:
        """Start nothing more; a round that runs goes on."""
        self.never_mind()
        self.rounds.stop()

    # -- one round ------------------------------------------------------------------

    async def _turn(self) -> Callable[[], None]:
        self._place = self._slots.acquire()
        try:
            self._slot = await self._place
        finally:
            self._place = None
        return self._slot.release

    async def _round(self, requests: list[Request]) -> Round:
        reactor = self._app.reactor
        began: float = reactor.seconds()
        self.standing.started(began)
        request = min(requests, key=lambda each: _CAUSES.index(each.cause))
        changes: tuple[RefChange, ...] = ()
        problem: Exception | None = None
        try:
            try:
                await self._refresh(follow_head=any(each.cause != "push" for each in requests))
            finally:
                # Also a fetch that failed, or was ended half way, may have moved refs.
                changes = await self._settle(request)
        except (StackitError, OSError) as caught:
            problem = caught
        except CancelledError:
            problem = StackitError("stackit is stopping")
        now = reactor.seconds()
        timed_out = isinstance(problem, GitError) and problem.timed_out
        if problem is None:
            self.standing.succeeded()
        else:
            self.standing.failed(now, _one_line(problem), timed_out=timed_out)
        self._app.observe(
            Occurrence(
                name="synced",
                repo=self.managed.repo,
                cause=request.cause,
                delivery=request.delivery,
                outcome=_outcome(problem, changes),
                seconds=now - began,
                count=len(changes),
                error=self.standing.error,
            )
        )
        if problem is not None:
            raise problem if isinstance(problem, StackitError) else StackitError(_one_line(problem)) from problem
        return Round(began, changes)

    async def _refresh(self, *, follow_head: bool) -> None:
        """Ask the remote, and make the mirror equal to it."""
        if not self.directory.exists():
            await self._clone()
            return
        if self._announced is None:
            # What happened before this start, by a crash's or a person's hand, is not this round's doing.
            # Where the mirror cannot be read, the fetch may mend it, or says why it cannot.
            with contextlib.suppress(GitError):
                await self._settle(Request("start"))
        await self._fetch(self.directory, timeout=min(self._timeout * 2**self.standing.timeouts, LONGEST))
        self.refs = await Snapshot.take(self._git, self.directory)
        if follow_head or self._head_dangles():
            await self._follow_head(self.directory)

    async def _clone(self) -> None:
        """The first fetch happens beside the mirror's place, so that nobody ever reads half a repository."""
        if self._cloning.exists():
            shutil.rmtree(self._cloning)
        self._cloning.parent.mkdir(parents=True, exist_ok=True)
        await self._git.local(self._cloning, "init", "--quiet", "--bare", "--template=")
        await self._fetch(self._cloning, timeout=LONGEST)
        # A fetch leaves a file for every ref, and each later fetch would read them all.
        await self._git.local(self._cloning, "pack-refs", "--all")
        self.refs = await Snapshot.take(self._git, self._cloning)
        await self._follow_head(self._cloning)
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self._cloning.rename(self.directory)

    async def _fetch(self, directory: Path, *, timeout: float) -> None:  # noqa: ASYNC109 - ends a process group
        began = self._app.reactor.seconds()
        try:
            try:
                await self._git_fetch(directory, timeout, atomic=True)
            except GitError as problem:
                if not self._mended(directory, problem, began) and "lock ref" not in problem.stderr:
                    raise
                # One transaction cannot put refs/heads/a/b in the place of refs/heads/a. The objects are here
                # by now, so that without it, deletions first, readers miss a branch only for an instant.
                await self._git_fetch(directory, timeout, atomic=False)
        except (GitError, CancelledError) as problem:
            # Nothing of the fetch runs any more: what it was unpacking is nobody's, nor is what it had locked
            # where it could not tidy up. (Otherwise the lock is somebody else's, and the reason of the failure.)
            clear = unfinished_packs if isinstance(problem, GitError) and not problem.killed else leftovers
            clear(directory, since=began - 1)
            raise

    async def _git_fetch(self, directory: Path, timeout: float, *, atomic: bool) -> None:  # noqa: ASYNC109 - as above
        reactor = self._app.reactor
        hung: DelayedCall | None = None
        if self._slot is not None:
            hung = reactor.callLater(LEND_AFTER, self._slot.lend)

        def progress(_: bytes) -> None:
            if hung is not None and hung.active():
                hung.reset(LEND_AFTER)

        try:
            await self._git.fetch(
                directory,
                self.managed,
                atomic=atomic,
                timeout=timeout,
                stall=min(STALL, timeout),
                on_progress=progress,
            )
        finally:
            if hung is not None and hung.active():
                hung.cancel()

    def _mended(self, directory: Path, problem: GitError, began: float) -> bool:
        """Whether the fetch failed at something that an earlier git left behind, which is now gone."""
        if ".lock': File exists" in problem.stderr:
            # The age spares a person who is working in the mirror by hand this moment.
            removed = leftovers(directory, before=began - 10)
            reason = f"removed {removed} leftovers of a git that was killed"
        elif any(sign in problem.stderr for sign in _EMPTY_FILE):
            removed = empty_files(directory)
            reason = f"removed {removed} empty files, as a power cut leaves them"
        else:
            return False
        if removed:
            self._app.observe(Occurrence(name="healed", repo=self.managed.repo, reason=reason, count=removed))
        return removed > 0

    # -- the default branch -----------------------------------------------------------

    async def _follow_head(self, directory: Path) -> None:
        target = await self._git.remote_head(self.managed, timeout=min(STALL, self._timeout))
        if target is not None and target != _head(directory) and self.refs.get(target) is not None:
            await self._git.local(directory, "symbolic-ref", "HEAD", os.fsencode(target))

    def _head_dangles(self) -> bool:
        head = _head(self.directory)
        return bool(self.refs) and (head is None or self.refs.get(head) is None)

    # -- telling what changed -----------------------------------------------------------

    async def _settle(self, request: Request) -> tuple[RefChange, ...]:
        """Announce how the refs differ from what was announced before; returns the differences."""
        if not self.directory.exists():
            return ()  # nothing is there to compare, which is not the same as: everything was deleted
        repo = self.managed.repo
        self.refs = now = await Snapshot.take(self._git, self.directory)
        if now == self._announced:
            return ()
        before = await self._app.announced(repo)
        changes = await changes_between(self._git, self.directory, before, now.as_dict())
        if changes:
            await self._app.announce(repo, changes, request.cause, request.delivery)
        self._announced = now
        return changes


def _head(directory: Path) -> str | None:
    """The ref that the mirror's HEAD points to."""
    try:
        text = (directory / "HEAD").read_bytes()
    except OSError:
        return None
    return os.fsdecode(text.removeprefix(b"ref: ").rstrip(b"\n")) if text.startswith(b"ref: ") else None


def _one_line(problem: Exception) -> str:
    if isinstance(problem, OSError):
        return f"{problem.strerror or problem}: {problem.filename}" if problem.filename else str(problem)
    return str(problem)


def _outcome(problem: Exception | None, changes: tuple[RefChange, ...]) -> str:
    if problem is None:
        return "changed" if changes else "unchanged"
    return "timeout" if isinstance(problem, GitError) and problem.timed_out else "failed"
