"""Discovery on a pretend GitHub, over a registry in memory."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from memory_journal import MemoryJournal
from registry_harness import build, configured
from twisted.internet.defer import Deferred

from stackit.api.events import Repo
from stackit.api.repos import ReposChange
from stackit.config.apps import AppConfig
from stackit.config.discover import DiscoverTable, DiscoveryConfig
from stackit.config.model import Config
from stackit.github.api import ApiClients
from stackit.github.apps import Apps
from stackit.github.discovery.discovery import Discovery
from stackit.github.discovery.report import ListingReport
from stackit.registry import Record, Registry
from stackit.secrets.redactor import Redactor
from stackit.testing.github import PretendGitHub
from stackit.testing.github_api.apps import PretendApp
from stackit.testing.timelapse import Timelapse

Result = TypeVar("Result")

LISTING = "/installation/repositories"


class DiscoveryHarness:
    """Discovery for the App ``main`` at ``octo``, whose tables are ``tables``, in simulated time."""

    def __init__(self, time: Timelapse, github: PretendGitHub, directory: Path) -> None:
        self.time = time
        self.github = github
        self.notices: list[str] = []
        self.journal = MemoryJournal(time)
        self.changes_told: list[ReposChange] = []
        self.registry = self.restarted()
        self.clients = ApiClients(time, time.now, notice=self.notices.append)
        self.apps = Apps(
            (), reactor=time, now=time.now, clients=self.clients, redact=Redactor(), notice=self.notices.append
        )
        self.directory = directory
        self._configs: list[AppConfig] = []
        self._discoveries: list[Discovery] = []
        self.app = self.add_app("main")
        self.tables: Sequence[DiscoverTable] = (DiscoverTable(app="main"),)
        self.settings = DiscoveryConfig()

    def restarted(self, *file: str) -> Registry:
        """Return a registry over the same journal, with these repositories in the configuration."""
        made = Registry(
            configured(*file),
            build=build,
            journal=self.journal,
            reactor=self.time,
            now=self.time.now,
            notice=self.notices.append,
        )
        made.load()
        made.repos.on_change(self.changes_told.append)
        return made

    def add_app(self, name: str) -> PretendApp:
        """Register an App, and configure it."""
        app = self.github.apps.create(name)
        file = self.directory / f"{name}.pem"
        file.write_text(app.private_key)
        self._configs.append(
            AppConfig(
                name=name,
                issuer=str(app.id),
                private_key_file=file,
                api_url=self.github.api_url,
                web_url=self.github.web_url,
            )
        )
        self.apps.change(self._configs)
        return app

    def discovery(self, tell_leader: Callable[[str], object] | None = None) -> Discovery:
        """Return discovery with the tables of now, not started; ``tell_leader`` is for a node that does not lead."""

        async def tell(text: str) -> None:
            assert tell_leader is not None
            tell_leader(text)

        config = Config(state_dir=self.directory, discover=tuple(self.tables), discovery=self.settings)
        made = Discovery(
            config,
            registry=self.registry,
            apps=self.apps,
            clients=self.clients,
            reactor=self.time,
            now=self.time.now,
            notice=self.notices.append,
            tell_leader=None if tell_leader is None else tell,
        )
        self._discoveries.append(made)
        return made

    async def look(self, *, accept: bool = False, dry: bool = False) -> list[ListingReport]:
        """Read all listings once, while time passes as far as it is waited for."""
        return await self.done(self.discovery().look_now(accept=accept, dry=dry))

    async def done(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Let time pass until some work is done, and return its result."""
        running = Deferred.fromCoroutine(work)
        await self.time.rest()
        while not running.called:
            await self.time.pass_time(1.0)
        return await running

    async def changes(self, **options: Any) -> dict[str, str]:
        """Read all listings once, and return what changed by name: ``added``, ``removed`` and so on."""
        reports = await self.look(**options)
        return {each.name: each.change for report in reports for each in report.repos if each.change != "none"}

    def names(self) -> set[str]:
        """The repositories that are mirrored."""
        return {str(each.repo) for each in self.registry.repos}

    def record(self, name: str) -> Record:
        """The record of a repository, by its name at GitHub now or last."""
        return next(each for each in self.registry.records() if each.repo == Repo.parse(name))

    def states(self) -> dict[str, int]:
        """The number of repositories in each state."""
        return {state: number for state, number in self.registry.counts().items() if number}

    async def close(self) -> None:
        for each in self._discoveries:
            await each.stop()
        await self.apps.stop()
        await self.clients.close()
        await self.registry.stop()
