"""``--demo``: the real stackit beside a pretend GitHub, and a story that shows pushes, a forgery and a lost delivery.

The service, the sockets, the signatures and git are real; only github.com is not.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure

from stackit import RefsChanged, Repo, hookimpl
from stackit.api.occurrences import Occurrence
from stackit.api.reactor import Reactor, sleep
from stackit.api.repos import ManagedRepo
from stackit.config.model import AdminConfig, Config, SyncConfig
from stackit.config.secret import Secret
from stackit.service import Stackit
from stackit.testing import PretendGitHub
from stackit.text.units import Duration

REPOS = ("octo/widget", "octo/gadget", "octo/website")
BACKSTOP_INTERVAL = 10.0
PAUSE = 3.0
BURST = 20

Say = Callable[[str], None]


class Story:
    """A plugin like any other, which prints what it sees on the bus."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.aside = False
        self.visible = 0

    @hookimpl
    def stackit_refs_changed(self, change: RefsChanged) -> None:
        if self.aside or change.cause == "start":
            return
        for each in change.changes:
            moved = f"{each.kind} {_short(each.old)} → {_short(each.new)}"
            self._say(f"    a plugin saw  {change.repo} {_branch(each.ref)} {moved} (found by: {change.cause})")

    @hookimpl
    def stackit_observe(self, occurrence: Occurrence) -> None:
        if occurrence.name == "visible" and occurrence.seconds is not None:
            self.visible += 1
            if not self.aside:
                self._say(f"    visible       in the mirror {occurrence.seconds * 1000:.0f} ms after it was received")
        elif occurrence.name == "refused":
            self._say(f"    refused       {occurrence.status} ({occurrence.reason}); nothing else happened")


class Demo(Service):
    """stackit and a pretend GitHub in one temporary directory, which is removed when the demo ends."""

    def __init__(self, reactor: Reactor, say: Say = print, *, listen: str | None, admin_listen: str | None) -> None:
        self._reactor = reactor
        self._say = say
        self._listen = listen or "tcp:0:interface=127.0.0.1"
        self._admin_listen = admin_listen or "tcp:0:interface=127.0.0.1"
        self._secret = secrets.token_hex(20)
        self._story = Story(say)
        self._github = PretendGitHub()
        self._stackit: Stackit | None = None
        self._playing: Deferred[None] | None = None

    def startService(self) -> None:
        Service.startService(self)
        self._directory = Path(tempfile.mkdtemp(prefix="stackit-demo-"))
        self._playing = Deferred.fromCoroutine(self._play())
        self._playing.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await self._playing
        try:
            if self._stackit is not None:
                await self._stackit.stopService()
            await self._github.stop()
        finally:
            shutil.rmtree(self._directory)
        self._say("The demo has ended; nothing of it is left.")

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._say(f"The demo cannot go on: {failure.getErrorMessage()}")
            self._reactor.stop()

    # -- the story ------------------------------------------------------------------

    async def _play(self) -> None:
        await self._set_the_stage()
        repos = cycle(REPOS)
        while True:
            for _ in range(3):
                await self._push(next(repos))
            await self._forge(next(repos))
            await self._burst(next(repos))
            await self._lose(next(repos))
            self._say("\nThat was all there is; it goes on like this until you press Ctrl-C.\n")

    async def _set_the_stage(self) -> None:
        github = self._github
        await github.start(self._reactor, self._directory / "github")
        urls = {}
        for repo in REPOS:
            urls[repo] = await github.create(repo)
            await github.commit(repo)
        self._stackit = running = Stackit(
            Config(
                state_dir=self._directory / "state",
                listen=self._listen,
                admin=AdminConfig(listen=self._admin_listen),
                webhook_secret=Secret(self._secret),
                sync=SyncConfig(interval=Duration(BACKSTOP_INTERVAL)),
                plugins={"logger": {"enabled": False}},  # the story tells the same for people
                repos=tuple(ManagedRepo(repo=Repo.parse(repo), url=url) for repo, url in urls.items()),
            ),
            self._reactor,
            plugins={"story": self._story},
        )
        running.startService()
        public, admin = running.addresses
        github.webhook(f"{public}/api/v1/webhooks/github", self._secret)
        self._say(
            f"stackit runs beside a pretend GitHub that has {len(REPOS)} repositories.\n"
            f"    webhook       {public}/api/v1/webhooks/github\n"
            f"    mirrors       {self._directory}/state/mirrors\n"
            f"    metrics       curl {admin}/metrics\n"
            f"    receipts      curl {admin}/api/v1/deliveries\n"
            "Ctrl-C ends it and leaves nothing behind.\n"
        )
        await self._pause()

    async def _push(self, repo: str) -> None:
        sent = await self._github.push(repo)
        if sent.moved is not None:
            answered = f"delivery answered {sent.status} in {sent.seconds * 1000:.0f} ms"
            self._say(f"{repo}: pushed {_short(sent.moved.after)} to {_branch(sent.moved.ref)}; {answered}")
        await self._pause()

    async def _forge(self, repo: str) -> None:
        self._say(f"{repo}: somebody without the secret forges a push")
        forger = PretendGitHub()
        await forger.start(self._reactor, self._directory / "forger")
        try:
            forger.webhook(f"{self._public}/api/v1/webhooks/github", "not the secret")
            await forger.send("push")
        finally:
            await forger.stop()
        await self._pause()

    async def _burst(self, repo: str) -> None:
        self._say(f"{repo}: {BURST} pushes at once")
        before, self._story.aside, self._story.visible = self._github.fetches(repo), True, 0
        began = self._reactor.seconds()
        moves = [await self._github.commit(repo) for _ in range(BURST)]
        sent_at = self._reactor.seconds()
        await DeferredList([Deferred.fromCoroutine(self._github.announce(each)) for each in moves])
        while self._story.visible < BURST and self._reactor.seconds() - began < 60:
            await sleep(self._reactor, 0.02)
        took = (self._reactor.seconds() - sent_at) * 1000
        fetches = self._github.fetches(repo) - before
        noun = "fetch" if fetches == 1 else "fetches"
        self._say(f"    visible       all {self._story.visible} within {took:.0f} ms, with {fetches} {noun}")
        self._story.aside = False
        await self._pause()

    async def _lose(self, repo: str) -> None:
        self._github.lose_next()
        sent = await self._github.push(repo)
        if sent.moved is not None:
            self._say(
                f"{repo}: pushed {_short(sent.moved.after)}, but its delivery was lost; "
                f"the backstop looks every {BACKSTOP_INTERVAL:.0f} s"
            )
        await sleep(self._reactor, 2 * BACKSTOP_INTERVAL)

    async def _pause(self) -> None:
        await sleep(self._reactor, PAUSE)

    @property
    def _public(self) -> str:
        assert self._stackit is not None  # noqa: S101 - the stage is set before the play
        return self._stackit.addresses[0]


def _short(oid: str) -> str:
    return "nothing" if set(oid) == {"0"} else oid[:7]


def _branch(ref: str) -> str:
    return ref.removeprefix("refs/heads/")
