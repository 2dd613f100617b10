"""The demo as a service of twistd."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from stackit.api.reactor import Reactor, sleep
from stackit.demo.scenes import PAUSE, Scenes
from stackit.demo.stage import OWNER, Stage
from stackit.demo.story import Say, Story

REPOS = ["widget", "gadget", "website"]


class Demo(Service):
    """stackit and a pretend GitHub in one temporary directory, which is removed when the demo ends."""

    def __init__(self, reactor: Reactor, say: Say = print, *, listen: str | None, admin_listen: str | None) -> None:
        self._reactor = reactor
        self._say = say
        self._story = Story(say)
        self._stage = Stage(
            reactor,
            listen=listen or "tcp:0:interface=127.0.0.1",
            admin_listen=admin_listen or "tcp:0:interface=127.0.0.1",
            plugins={"story": self._story},
        )
        self._playing: Deferred[None] | None = None

    def startService(self) -> None:
        Service.startService(self)
        self._directory = Path(tempfile.mkdtemp(prefix="stackit-demo-"))
        self._playing = Deferred.fromCoroutine(self._play())
        self._playing.addErrback(self._failed)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _play(self) -> None:
        await self._stage.prepare(self._directory, REPOS)
        admin = self._stage.addresses[-1]
        self._say(
            f"stackit runs beside a pretend GitHub, as an App that is installed on {OWNER} and has found its"
            f" {len(REPOS)} private repositories.\n"
            f"    pages         {admin}/\n"
            f"    webhook       {self._stage.webhook}\n"
            f"    configuration {self._stage.config_file}\n"
            f"    mirrors       {self._directory}/state/mirrors\n"
            f"    metrics       curl {admin}/metrics\n"
            f"    receipts      curl {admin}/api/v1/deliveries\n"
            "Ctrl-C ends it and leaves nothing behind.\n"
        )
        await sleep(self._reactor, PAUSE)
        await Scenes(self._reactor, self._say, self._stage, self._story, REPOS).play()

    async def _stop(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await self._playing
        try:
            await self._stage.clear()
        finally:
            shutil.rmtree(self._directory)
        self._say("The demo has ended; nothing of it is left.")

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._say(f"The demo cannot go on: {failure.getErrorMessage()}")
            self._reactor.stop()
