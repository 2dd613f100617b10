"""The handling of pushes: done when the commit is visible in the mirror, or the remote has moved on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from twisted.internet.defer import CancelledError

from stackit import App, Occurrence, Push, StackitError
from stackit.plugins.mirror.git.errors import GitError
from stackit.plugins.mirror.git.runner import Git
from stackit.plugins.mirror.refs.refspecs import destination, destinations
from stackit.plugins.mirror.repository.ancestry import is_ancestor
from stackit.plugins.mirror.repository.history_cache import HistoryCache
from stackit.plugins.mirror.sync.clock import ClockConverter
from stackit.plugins.mirror.sync.fast_fetch import Target
from stackit.plugins.mirror.sync.requests import Moved, Stopping
from stackit.plugins.mirror.sync.tunables import Tunables
from stackit.plugins.mirror.sync.worker import MirrorWorker

RELEVANT = 900.0
"""Seconds for which the commit that a push replaced is remembered: longer than an earlier push waits for its own."""

Verdict = Literal["visible", "superseded", "stale"]


class Arrival(msgspec.Struct, frozen=True):
    """The arrival of a push, independent of the wall clock.

    ``order`` is its number among the pushes of the repository. ``at`` is the time when it was received, ``known_at``
    when it was first seen here, both by the reactor's clock.
    """

    order: int
    at: float
    known_at: float


class PushHandler:
    """Handles the pushes of one repository, in the order received."""

    def __init__(
        self,
        app: App,
        git: Git,
        worker: MirrorWorker,
        histories: HistoryCache,
        clock: ClockConverter,
        tunables: Tunables,
        forward: Callable[[Push], Awaitable[None]],
    ) -> None:
        """``forward`` handles a push whose repository moved meanwhile."""
        self._forward = forward
        self._app = app
        self._clock = clock
        self._tunables = tunables
        self._git = git
        self._worker = worker
        self._histories = histories
        self._arrivals: dict[str, Arrival] = {}  # by delivery, oldest first: those that are not through
        self._arrived = 0
        self._moved_from: dict[tuple[str, str], Arrival] = {}  # oldest first
        self._unconfirmed: set[str] = set()

    def expect(self, push: Push) -> None:
        """Start to fetch this push before it is handled, if it continues from the commit that the mirror has.

        A push that comes again, or continues from another commit, starts nothing here.
        """
        ref = None if push.ref is None else destination(self._worker.managed.refspecs, push.ref)
        if push.ref is not None and ref is None:
            return  # a ref that the mirror does not keep
        arrival = self._arrival(push, received=True)
        if ref is None or push.before is None or push.after is None or _nothing(push.after):
            return
        now = self._worker.refs.get(ref) or _none_like(push.before)
        if now != push.before or (ref, push.before) in self._moved_from:
            return
        target = self._target(push, ref, push.after)
        if target is not None:
            self._remember(ref, push.before, arrival)
            self._worker.expect(push.delivery, target)

    async def handle(self, push: Push) -> None:
        """Return when the push is visible in the mirror, or superseded.

        Raises StackitError if the remote cannot be asked, or still does not show the push, and CancelledError if a
        stop ends it: it is handled after the next start.
        """
        ref = None if push.ref is None else destination(self._worker.managed.refspecs, push.ref)
        if push.ref is not None and ref is None:
            return  # a ref that the mirror does not keep
        arrival = self._arrival(push)
        self._worker.pending_pushes += 1
        try:
            if ref is None or push.before is None or push.after is None:
                await self._ensure_covered(push, arrival, full=True)
            else:
                await self._make_visible(push, arrival, ref, push.before, push.after)
        except Moved:
            moved = True
        except Stopping:
            raise CancelledError from None
        else:
            moved = False
        finally:
            self._worker.pending_pushes -= 1
        self._arrivals.pop(push.delivery, None)
        if moved:
            await self._forward(push)

    def _arrival(self, push: Push, *, received: bool = False) -> Arrival:
        """Return the arrival of this push, a new one if it is ``received`` now."""
        now = self._app.reactor.seconds()
        arrival = self._arrivals.get(push.delivery)
        if arrival is not None and not received:
            return arrival
        at = now if received else self._clock.to_monotonic(push.received_at)
        if arrival is None:
            self._arrived += 1
            arrival = Arrival(self._arrived, at, now)
        else:
            arrival = msgspec.structs.replace(arrival, at=at)  # it came again, and may be about what happened since
        self._arrivals[push.delivery] = arrival
        while len(self._arrivals) > self._tunables.pushes_remembered:
            del self._arrivals[next(iter(self._arrivals))]
        return arrival

    def _target(self, push: Push, ref: str, after: str) -> Target | None:
        """Return the ref and commit to fetch; None if refspecs map the ref to several, which git fetches together."""
        source = push.ref or ref
        several = len(list(destinations(self._worker.managed.refspecs, source))) > 1
        return None if several else Target(source, ref, after)

    async def _make_visible(self, push: Push, arrival: Arrival, ref: str, before: str, after: str) -> None:
        self._remember(ref, before, arrival)
        full = _nothing(after)  # only a look at all refs tells what is gone
        target = None if full else self._target(push, ref, after)
        # An announcement under way may still fail; its round has the result.
        if not self._worker.all_announced or not (
            self._shows(ref, after) or await self._is_passed(push, ref, before, after)
        ):
            await self._ensure_covered(push, arrival, full=full, target=target)
        for delay in (*self._tunables.ask_again_after, None):
            verdict = await self._verdict(push, arrival, ref, before, after)
            if verdict == "visible":
                await self._visible(push, arrival)
            missing = self._worker.status.missing
            if verdict != "visible" and missing is not None and ref in missing.refs:
                raise StackitError(str(missing))
            if verdict != "stale":
                return
            if full and self._worker.status.held is not None:
                raise StackitError(self._worker.status.held)
            if delay is not None:
                await self._app.sleep(delay)
                await self._worker.sync("push", push.delivery, full=full, target=target)
        if self._app.reactor.seconds() - arrival.known_at < self._tunables.patience:
            raise StackitError(f"stale upstream: the remote does not show {ref} at {after[:12]} yet")
        reason = f"{ref} at {after[:12]}, which a push announced, is not at the remote, and is taken as superseded"
        self._app.observe(
            Occurrence(name="notice", repo=self._worker.managed.repo, delivery=push.delivery, id=push.id, reason=reason)
        )

    async def _is_passed(self, push: Push, ref: str, before: str, after: str) -> bool:
        """Return True if the mirror is beyond this push already, so that the remote need not be asked.

        A push that went back does not count: the mirror's history has its commit as well.
        """
        now = self._worker.refs.get(ref)
        if now is None or now == before or push.forced or _nothing(before) or _nothing(after):
            return False
        return await self._contains(now, after) and await self._contains(now, before)

    async def _ensure_covered(self, push: Push, arrival: Arrival, *, full: bool, target: Target | None = None) -> None:
        """Return when a round that began after the push was received has succeeded."""
        status = self._worker.status
        if status.covers(arrival.at, full=full, ref=target.ref if target else None):
            return
        if status.silenced() or (status.paused() and status.tried_since(arrival.at)):
            # A round for another push failed meanwhile; the retry of this one asks again.
            raise StackitError(status.error)
        await self._worker.sync("push", push.delivery, full=full, target=target, since=arrival.at)

    async def _verdict(self, push: Push, arrival: Arrival, ref: str, before: str, after: str) -> Verdict:
        if self._shows(ref, after):
            self._confirm(ref)
            return "visible"
        now = self._worker.refs.get(ref)
        leaving = self._moved_from.get((ref, after))
        left = leaving is not None and leaving.order > arrival.order  # a later push started from here
        if (now or _none_like(before)) == before:
            return "superseded" if left else "stale"
        if now is not None and await self._contains(now, after):
            return "visible"
        if not left:
            # The ref is neither where it was nor where it should be. Most likely it was pushed again, and the next
            # push confirms that. A remote that is several pushes behind looks the same, so a round is due unless
            # a push comes, but this push need not wait for it.
            if self._worker.recheck_after(self._tunables.recheck_after, push.delivery):
                self._unconfirmed.clear()  # the earlier ones have been checked
            # Beyond the limit, "" stands for the others: no push confirms it, so the round takes place.
            self._unconfirmed.add(ref if len(self._unconfirmed) < self._tunables.pushes_remembered else "")
        return "superseded"

    def _confirm(self, ref: str) -> None:
        """Note that the mirror shows exactly the newest push of a ref."""
        if ref in self._unconfirmed:
            self._unconfirmed.remove(ref)
            if not self._unconfirmed:
                self._worker.cancel_recheck()

    def _shows(self, ref: str, after: str) -> bool:
        now = self._worker.refs.get(ref)
        if _nothing(after):
            # Before the first round no ref is known, which does not mean deleted.
            return now is None and self._worker.status.covered_at is not None
        return now == after

    async def _contains(self, tip: str, oid: str) -> bool:
        """Return True if the history of ``tip`` contains ``oid``; a burst of pushes asks git once."""
        if _nothing(oid):
            return False
        directory, mirror = self._worker.directory, self._worker.managed.repo.key
        listed = self._histories.get(mirror, tip)
        if listed is None:
            try:
                listed = (
                    await self._git.local(
                        directory, "rev-list", f"--max-count={self._tunables.pushes_remembered}", tip, "--"
                    )
                ).stdout
            except GitError:
                return False  # no commit: a tag of a tree or a file
            self._histories.put(mirror, tip, listed)
        return oid.encode("ascii") in listed or await is_ancestor(self._git, directory, oid, tip)

    def _remember(self, ref: str, before: str, arrival: Arrival) -> None:
        known = self._moved_from.pop((ref, before), arrival)
        self._moved_from[ref, before] = known if known.order > arrival.order else arrival
        while (
            len(self._moved_from) > self._tunables.pushes_remembered
            or next(iter(self._moved_from.values())).known_at < arrival.known_at - RELEVANT
        ):
            del self._moved_from[next(iter(self._moved_from))]

    async def _visible(self, push: Push, arrival: Arrival) -> None:
        seconds = self._app.reactor.seconds() - arrival.at
        if not await self._app.visible(push.id, self._app.fleet_now()):
            return  # a replay: it has been visible for long
        self._app.observe(
            Occurrence(
                name="visible",
                repo=self._worker.managed.repo,
                delivery=push.delivery,
                id=push.id,
                seconds=seconds,
            )
        )


def _nothing(oid: str) -> bool:
    return not oid.strip("0")


def _none_like(oid: str) -> str:
    """Return the id of no object, as long as this one."""
    return "0" * len(oid)
