"""The scenes of the demo: each does something at the pretend GitHub, and tells what stackit makes of it."""

from __future__ import annotations

from itertools import chain, count, cycle

from twisted.internet.defer import Deferred, DeferredList

from stackit.api.reactor import Reactor, sleep
from stackit.demo.stage import BACKSTOP_INTERVAL, OWNER, Stage
from stackit.demo.story import Say, Story, branch, short
from stackit.testing import PretendGitHub

PAUSE = 2.0
BURST = 20
MISSED = 3

_NEW = (("blog", "journal"), ("docs", "manual"), ("tools", "workshop"))
"""The names of repositories that appear, and what they are renamed to."""


class Scenes:
    """What happens. ``repos`` are the names of the repositories that there are, without their owner."""

    def __init__(self, reactor: Reactor, say: Say, stage: Stage, story: Story, repos: list[str]) -> None:
        self._reactor = reactor
        self._say = say
        self._stage = stage
        self._github = stage.github
        self._story = story
        self._repos = repos
        self._lost: set[str] = set()  # the ids of deliveries
        self._new = chain(_NEW, ((f"new-{number}", f"newer-{number}") for number in count(1)))

    async def play(self) -> None:
        """Play all scenes, again and again."""
        repos = cycle(list(self._repos))
        for turn in count():
            for _ in range(3):
                await self._push(next(repos))
            await self._forge(next(repos))
            await self._burst(next(repos))
            first, second = next(self._new)
            await self._appear(first)
            await self._rename(first, second)
            await self._lose(next(repos))
            await self._break_down(next(repos))
            if turn == 0:
                self._say("\nThat was all there is; it goes on like this until you press Ctrl-C.\n")

    async def _push(self, repo: str) -> None:
        sent = await self._github.push(f"{OWNER}/{repo}")
        if sent.moved is not None:
            answered = f"delivery answered {sent.status} in {sent.seconds * 1000:.0f} ms"
            self._say(f"{OWNER}/{repo}: pushed {short(sent.moved.after)} to {branch(sent.moved.ref)}; {answered}")
        await self._pause()

    async def _forge(self, repo: str) -> None:
        self._say(f"{OWNER}/{repo}: somebody without the secret forges a push")
        forger = PretendGitHub()
        await forger.start(self._reactor, self._stage.directory / "forger")
        try:
            forger.webhook(self._stage.webhook, "not the secret")
            await forger.send("push")
        finally:
            await forger.stop()
        await self._pause()

    async def _burst(self, repo: str) -> None:
        name = f"{OWNER}/{repo}"
        self._say(f"{name}: {BURST} pushes at once")
        before, self._story.aside, self._story.visible = self._github.fetches(name), True, 0
        moves = [await self._github.commit(name) for _ in range(BURST)]
        sent_at = self._reactor.seconds()
        await DeferredList([Deferred.fromCoroutine(self._github.announce(each)) for each in moves])
        await self._stage.until(lambda: self._story.visible >= BURST, "the pushes were not visible")
        took = (self._reactor.seconds() - sent_at) * 1000
        fetches = self._github.fetches(name) - before
        noun = "fetch" if fetches == 1 else "fetches"
        self._say(f"    visible       all {self._story.visible} within {took:.0f} ms, with {fetches} {noun}")
        self._story.aside = False
        await self._pause()

    async def _lose(self, repo: str) -> None:
        before = self._story.looked
        self._github.lose_next()
        sent = await self._github.push(f"{OWNER}/{repo}")
        self._lost.add(sent.guid)
        if sent.moved is not None:
            self._say(
                f"{OWNER}/{repo}: pushed {short(sent.moved.after)}, but its delivery was lost; "
                f"the backstop looks every {BACKSTOP_INTERVAL:.0f} s"
            )
        await self._stage.until(lambda: self._story.looked > before, "the backstop found nothing")
        await self._pause()

    async def _appear(self, repo: str) -> None:
        name = f"{OWNER}/{repo}"
        self._say(f"{name}: somebody makes a new repository")
        await self._github.create(name, private=True)
        took = await self._stage.until(self._stage.mirror(repo).exists, f"{name} had no mirror")
        self._say(f"    found         it has a mirror {took * 1000:.0f} ms later")
        await self._push(repo)

    async def _rename(self, repo: str, new: str) -> None:
        old, moved = self._stage.mirror(repo), self._stage.mirror(new)
        fetches = self._github.fetches(f"{OWNER}/{repo}")
        self._say(f"{OWNER}/{repo}: renamed to {OWNER}/{new}")
        await self._github.admin.rename(f"{OWNER}/{repo}", new)
        took = await self._stage.until(lambda: moved.exists() and not old.exists(), "the mirror was not moved")
        fetched = self._github.fetches(f"{OWNER}/{new}") + self._github.fetches(f"{OWNER}/{repo}") - fetches
        self._say(f"    moved         its mirror has the new name {took * 1000:.0f} ms later, with {fetched} fetches")
        await self._push(new)

    async def _break_down(self, repo: str) -> None:
        self._say(f"stackit stops, and {MISSED} pushes to {OWNER}/{repo} are not delivered")
        await self._stage.stop()
        lost, self._lost = self._lost - self._story.recovered, set()
        missed = {(await self._github.push(f"{OWNER}/{repo}")).guid for _ in range(MISSED)}
        self._story.aside = True
        self._stage.start()
        took = await self._stage.until(lambda: missed | lost <= self._story.recovered, "deliveries were not recovered")
        self._story.aside = False
        beside = ", and the one that was lost before" if lost else ""
        self._say(f"    recovered     all {MISSED}{beside}, from GitHub's list, {took:.1f} s after it started again")
        await self._pause()

    async def _pause(self) -> None:
        await sleep(self._reactor, PAUSE)
