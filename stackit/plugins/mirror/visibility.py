"""When a push is done: its commit is visible in the mirror, or the remote has moved on."""

from __future__ import annotations

from typing import Literal

from twisted.internet.task import deferLater

from stackit import App, Occurrence, Push, StackitError
from stackit.plugins.mirror.ancestry import is_ancestor
from stackit.plugins.mirror.fastroad import Target
from stackit.plugins.mirror.git import Git, GitError
from stackit.plugins.mirror.histories import Histories
from stackit.plugins.mirror.keeper import Keeper
from stackit.plugins.mirror.refspecs import destination

DELAYS = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
"""Seconds between asks of a remote that does not show a pushed commit yet: GitHub answers from replicas."""
PATIENCE = 600.0
"""Seconds after which a remote that still does not show a push never will: what undid it was not announced."""
LOOK_AGAIN = 5.0
REMEMBERED = 1000
RELEVANT = 3600.0
"""Seconds for which it counts what a push left behind: those before it are through by then, or get new looks."""

Verdict = Literal["visible", "superseded", "stale"]


class Pushes:
    """Handles the pushes of one repository, in the order received."""

    def __init__(self, app: App, git: Git, keeper: Keeper, histories: Histories) -> None:
        self._app = app
        self._git = git
        self._keeper = keeper
        self._histories = histories
        self._left: dict[tuple[str, str], float] = {}  # oldest first
        self._doubted: set[str] = set()

    def expect(self, push: Push) -> None:
        """Begin to bring what this push announces, before it is there to be handled, if it is the next one.

        Only the first push that leaves where the mirror stands is: one that comes again begins nothing here.
        """
        ref = None if push.ref is None else destination(self._keeper.managed.refspecs, push.ref)
        if ref is None or push.before is None or push.after is None or _nothing(push.after):
            return
        now = self._keeper.refs.get(ref) or _none_like(push.before)
        if now != push.before or (ref, push.before) in self._left:
            return
        self._remember(ref, push.before, push.received_at)
        self._keeper.expect(push.delivery, Target(push.ref or ref, ref, push.after))

    async def handle(self, push: Push) -> None:
        """Returns when the push is visible in the mirror or superseded.

        Raises StackitError where the remote could not be asked, or still does not show the push.
        """
        ref = None if push.ref is None else destination(self._keeper.managed.refspecs, push.ref)
        if push.ref is not None and ref is None:
            return  # a ref that the mirror does not keep
        self._keeper.awaited += 1
        try:
            if ref is None or push.before is None or push.after is None:
                await self._covered(push, look=True)
            else:
                await self._arrived(push, ref, push.before, push.after)
        finally:
            self._keeper.awaited -= 1

    async def _arrived(self, push: Push, ref: str, before: str, after: str) -> None:
        self._remember(ref, before, push.received_at)
        look = _nothing(after)  # only a look at all refs tells what is gone
        target = None if look else Target(push.ref or ref, ref, after)
        # What is being told of just now may still fail to be: its round tells whether it did.
        if not self._keeper.settled or not (self._shows(ref, after) or await self._passed(push, ref, before, after)):
            await self._covered(push, look=look, target=target)
        for delay in (*DELAYS, None):
            verdict = await self._verdict(push, ref, before, after)
            if verdict == "visible":
                await self._visible(push)
            missing = self._keeper.standing.missing
            if verdict != "visible" and missing is not None and ref in missing.refs:
                raise StackitError(str(missing))
            if verdict != "stale":
                return
            if look and self._keeper.standing.held is not None:
                raise StackitError(self._keeper.standing.held)
            if delay is not None:
                await deferLater(self._app.reactor, delay)
                await self._keeper.sync("push", push.delivery, look=look, target=target)
        if self._app.reactor.seconds() - push.received_at < PATIENCE:
            raise StackitError(f"stale upstream: the remote does not show {ref} at {after[:12]} yet")
        reason = f"{ref} at {after[:12]}, which a push announced, is not at the remote, and is taken as superseded"
        self._app.observe(
            Occurrence(name="notice", repo=self._keeper.managed.repo, delivery=push.delivery, id=push.id, reason=reason)
        )

    async def _passed(self, push: Push, ref: str, before: str, after: str) -> bool:
        """Whether the mirror is beyond this push already, so that nothing has to be asked.

        Not where the push went back, to a commit that the mirror's history also has.
        """
        now = self._keeper.refs.get(ref)
        if now is None or now == before or push.forced or _nothing(before) or _nothing(after):
            return False
        return await self._contains(now, after) and await self._contains(now, before)

    async def _covered(self, push: Push, *, look: bool, target: Target | None = None) -> None:
        """Returns when a round that began after the push was received has succeeded."""
        standing, now = self._keeper.standing, self._app.reactor.seconds()
        if standing.covers(push.received_at, look=look, ref=target.ref if target else None):
            return
        if standing.silenced(now) or (standing.paused(now) and standing.tried_since(push.received_at)):
            # Asked on behalf of another push meanwhile, in vain; the retry of this one asks again.
            raise StackitError(standing.error)
        await self._keeper.sync("push", push.delivery, look=look, target=target, expected=True)

    async def _verdict(self, push: Push, ref: str, before: str, after: str) -> Verdict:
        if self._shows(ref, after):
            self._settled(ref)
            return "visible"
        now = self._keeper.refs.get(ref)
        left = self._left.get((ref, after), 0.0) > push.received_at  # a later push started from here
        if (now or _none_like(before)) == before:
            return "superseded" if left else "stale"
        if now is not None and await self._contains(now, after):
            return "visible"
        if not left:
            # Neither where it was nor where it should be. Most likely pushed over since, which the next push
            # will tell; a remote that is several pushes behind looks the same. So somebody has to look again
            # if nothing tells, but this push need not wait for it.
            self._doubted.add(ref)
            self._keeper.look_again(LOOK_AGAIN, push.delivery)
        return "superseded"

    def _settled(self, ref: str) -> None:
        """The newest push of a ref is exactly what the mirror shows."""
        if ref in self._doubted:
            self._doubted.remove(ref)
            if not self._doubted:
                self._keeper.never_mind()

    def _shows(self, ref: str, after: str) -> bool:
        now = self._keeper.refs.get(ref)
        if _nothing(after):
            # Before the first round, no ref is known: that is not the same as gone.
            return now is None and self._keeper.standing.covered_at is not None
        return now == after

    async def _contains(self, tip: str, oid: str) -> bool:
        """Whether the history of ``tip`` contains ``oid``; a burst of pushes asks git once."""
        if _nothing(oid):
            return False
        directory, mirror = self._keeper.directory, self._keeper.managed.repo.key
        listed = self._histories.of(mirror, tip)
        if listed is None:
            try:
                listed = (await self._git.local(directory, "rev-list", f"--max-count={REMEMBERED}", tip, "--")).stdout
            except GitError:
                return False  # no commit: a tag of a tree or a file
            self._histories.remember(mirror, tip, listed)
        return oid.encode("ascii") in listed or await is_ancestor(self._git, directory, oid, tip)

    def _remember(self, ref: str, before: str, received_at: float) -> None:
        self._left[ref, before] = max(self._left.pop((ref, before), 0.0), received_at)
        while len(self._left) > REMEMBERED or next(iter(self._left.values())) < received_at - RELEVANT:
            del self._left[next(iter(self._left))]

    async def _visible(self, push: Push) -> None:
        now = self._app.reactor.seconds()
        if not await self._app.visible(push.id, now):
            return  # a replay: it has been visible for long
        self._app.observe(
            Occurrence(
                name="visible",
                repo=self._keeper.managed.repo,
                delivery=push.delivery,
                id=push.id,
                seconds=max(0.0, now - push.received_at),
            )
        )


def _nothing(oid: str) -> bool:
    return not oid.strip("0")


def _none_like(oid: str) -> str:
    """Zeros, as many as the repository's object ids have digits."""
    return "0" * len(oid)
