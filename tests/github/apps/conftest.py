"""Apps on a pretend GitHub."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from stackit.config.apps import AppConfig
from stackit.github.api import ApiClients
from stackit.github.apps import Apps
from stackit.secrets.redactor import Redactor
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp
from stackit.testing.timelapse import Timelapse

Result = TypeVar("Result")


class Harness:
    """stackit's Apps, in simulated time, and the GitHub that they ask. ``recovered`` are names of Apps."""

    def __init__(self, time: Timelapse, github: PretendGitHub, directory: Path) -> None:
        self.time = time
        self.github = github
        self.notices: list[str] = []
        self.recovered: list[str] = []
        self.redact = Redactor()
        self._directory = directory
        self.clients = ApiClients(time, time.now, notice=self.notices.append)
        self.apps = Apps(
            (),
            reactor=time,
            now=time.now,
            clients=self.clients,
            redact=self.redact,
            notice=self.notices.append,
            recovered=lambda app: self.recovered.append(app.name),
        )

    def config(self, app: PretendApp, name: str = "main", **more: Any) -> AppConfig:
        """The configuration of an App, whose key is in a file."""
        file = self._directory / f"{name}.pem"
        file.write_text(app.private_key)
        api, web = self.github.api_url, self.github.web_url
        return AppConfig(name=name, issuer=str(app.id), private_key_file=file, api_url=api, web_url=web, **more)

    def minted(self, app: PretendApp) -> int:
        """The tokens that GitHub made for an App."""
        return sum(self.github.tokens.minted[each.id] for each in app.installations)

    async def done(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what a coroutine returns, while time passes. Raises what it raises."""
        running = Deferred.fromCoroutine(work)
        await self.until(lambda: running.called, 60)
        return await running

    async def until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something holds. Raises AssertionError if it does not within so many seconds."""
        end = self.time.seconds() + seconds
        while not holds():
            assert self.time.seconds() < end, self.notices
            await self.time.pass_time(1.0)


@pytest_twisted.async_yield_fixture
async def harness(tmp_path: Path) -> AsyncIterator[Harness]:
    from twisted.internet import reactor  # noqa: PLC0415

    time = Timelapse(reactor)
    github = PretendGitHub(time.now)
    await github.start(reactor, tmp_path / "github")
    made = Harness(time, github, tmp_path)
    try:
        yield made
    finally:
        await made.apps.stop()
        await made.clients.close()
        await github.stop()


@pytest.fixture
def anyway() -> None:
    """Nothing."""
