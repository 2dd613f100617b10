"""What stackit does at GitHub itself, beside the deliveries that it receives: the Apps, and the parts that use them.

A part is made in ``assemble``, and has the members of ``Part``. It finds the Apps in ``apps``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from prometheus_client.registry import Collector

from stackit.api.admin import AdminRequest, Response, Route
from stackit.api.events import Repo
from stackit.api.github import GitHubClient
from stackit.api.pages import Page, Panel
from stackit.api.reactor import Reactor
from stackit.api.repos import ManagedRepo, Repos
from stackit.bus.bus import Bus
from stackit.config.model import Config
from stackit.github.api import ApiClients
from stackit.github.apps import Apps, GitHubApp
from stackit.github.apps.part import AppsPart
from stackit.github.apps.personal import PersonalTokens
from stackit.github.apps.repository_client import RepositoryClient
from stackit.github.console.pages import github_pages
from stackit.github.discovery.discovery import Discovery
from stackit.github.hooks.part import HooksPart
from stackit.github.login.entrance import Entrance
from stackit.github.login.part import LoginPart
from stackit.github.recovery.part import ReadableHook, RecoveryPart
from stackit.github.recovery.taking import SpeaksFor, Take, Verify
from stackit.github.setup.part import SetupPart
from stackit.http.client.tls import TlsFiles
from stackit.journal import JournalProtocol
from stackit.registry import Registry
from stackit.reload.reloader import Step
from stackit.secrets.redactor import Redactor
from stackit.service.github_status import GitHubStatus
from stackit.service.part import Part


class GitHubParts:
    """All parts, in the order in which they start; they stop in reverse."""

    def __init__(
        self,
        config: Config,
        *,
        reactor: Reactor,
        now: Callable[[], float],
        redact: Redactor,
        notice: Callable[[str], None],
    ) -> None:
        self._started: list[Part] = []
        self._config = config
        self._reactor = reactor
        self._now = now
        self._redact = redact
        self._notice = notice
        self._access = config.access
        self.clients = ApiClients(reactor, now, notice=notice, redact=redact, tls_files=self._tls_files)
        """Clients of GitHub's API, which share connections, limits and clocks."""
        self.apps = Apps(
            config.apps,
            reactor=reactor,
            now=now,
            clients=self.clients,
            redact=redact,
            notice=notice,
            recovered=self._recovered,
        )
        self.parts: list[Part] = []
        self._repos = Repos()

    def assemble(
        self,
        registry: Registry,
        *,
        config: Callable[[], Config],
        journal: JournalProtocol,
        bus: Bus,
        take: Take,
        speaks_for: SpeaksFor,
        verify: Verify,
        refresh: Callable[[], None],
        compare: Callable[[], Awaitable[bool]],
        entrance: Entrance,
        stylesheet: str,
    ) -> None:
        """Make the parts, for the repositories of a registry.

        ``config`` returns the configuration of now. ``take`` is dispatch's, ``compare`` the backstop's. ``refresh`` has
        the receiver take the webhook secrets that are in the files now. ``entrance`` is the door for people,
        ``stylesheet`` the path of that of the admin side. The other functions are described where they are used.
        """
        self._repos = registry.repos
        apps, clients, reactor, now, notice = self.apps, self.clients, self._reactor, self._now, self._notice
        personal = PersonalTokens(
            self._config, registry.repos, clients.expiries, reactor=reactor, now=now, notice=notice
        )
        self.discovery = discovery = Discovery(
            self._config, registry=registry, apps=apps, clients=clients, reactor=reactor, now=now, notice=notice
        )

        async def reconcile() -> bool:
            """Compare every listing and every mirror with GitHub; return whether all of them could be compared."""
            listed = await discovery.reconcile()
            return await compare() and listed

        hooks = HooksPart(
            reactor=reactor,
            now=now,
            apps=apps,
            clients=clients,
            repos=registry.repos,
            config=config,
            journal=journal,
            patterns=partial(_event_names, bus),
            refresh=refresh,
            notice=notice,
        )
        recovery = RecoveryPart(
            self._config,
            apps,
            reactor=reactor,
            now=now,
            journal=journal,
            take=take,
            wanted=bus.wants,
            speaks_for=speaks_for,
            verify=verify,
            reconcile=reconcile,
            others=partial(_readable, hooks),
            observe=bus.observe,
        )
        setup = SetupPart(reactor=reactor, now=now, clients=clients, config=config, redact=self._redact, notice=notice)
        self.login = LoginPart(
            config,
            reactor=reactor,
            now=now,
            apps=apps,
            clients=clients,
            journal=journal,
            entrance=entrance,
            notice=notice,
            stylesheet=stylesheet,
        )
        self.parts = [AppsPart(self._config, apps), personal, discovery, recovery, hooks, setup, self.login]

    def bind(self, managed: Iterable[ManagedRepo]) -> tuple[ManagedRepo, ...]:
        """Return the repositories, each of an App with the source of its tokens."""
        return tuple(map(self.apps.bound, managed))

    def client(self, repo: Repo) -> GitHubClient:
        """Return a client of GitHub's API that asks as the App that is installed for a repository."""
        return RepositoryClient(self.apps, repo, self._repos.get)

    def _change_hosts(self, new: Config) -> None:
        self._access = new.access

    def _tls_files(self, host: str, port: int) -> TlsFiles:
        """Return the files for TLS with a host."""
        return TlsFiles(**self._access.tls(f"https://[{host}]:{port}/" if ":" in host else f"https://{host}:{port}/"))

    def _recovered(self, app: GitHubApp) -> None:
        """Tell of the sources that give tokens again, and look for what happened while they did not."""
        self.discovery.look_at_app(app.name)
        sources = {each.token_source for each in self._repos if each.app == app.name and each.token_source is not None}
        for source in sources:
            if source.problem is None:
                self._repos.access_returned(source)

    def start(self) -> None:
        """Start the parts."""
        for part in self.parts:
            part.start()
            self._started.append(part)

    async def stop(self) -> None:
        """Stop those that were started, and close the connections."""
        while self._started:
            await self._started.pop().stop()
        await self.clients.close()

    def plugins(self) -> Mapping[str, object]:
        """Return the plugins of the parts by name: their handlers are told of events."""
        found = {f"github-{part.name}": part.plugin() for part in self.parts}
        return {name: plugin for name, plugin in found.items() if plugin is not None}

    def routes(self) -> list[Route]:
        """Return ``GET {prefix}/github``, and the routes of the parts."""
        return [
            Route(
                "GET",
                "{prefix}/github",
                self._show,
                query=(),
                summary="Show what stackit does at GitHub, by its parts.",
                returns=GitHubStatus,
            ),
            *(route for part in self.parts for route in part.routes()),
        ]

    def pages(self) -> list[Page | Panel]:
        """Return the page about GitHub, and its panel; nothing where nothing is configured there."""
        config = self._config
        return github_pages(self.problems) if config.apps or config.discover or config.owners else []

    def collectors(self) -> list[tuple[str, Collector]]:
        """Return the metrics of the parts, each with a name of whose they are."""
        own = [("github-api", each) for each in self.clients.collectors()]
        return own + [(f"github-{part.name}", each) for part in self.parts for each in part.collectors()]

    def problems(self) -> list[str]:
        """Return what an operator has to know, a line each."""
        return [line for part in self.parts for line in part.problems()]

    def status(self) -> dict[str, Any]:
        """Return the clocks and limits of the API, and the state of each part by its name."""
        return {"api": self.clients.status()} | {part.name: msgspec.to_builtins(part.status()) for part in self.parts}

    def prepare(self, _: Config, new: Config, names: Sequence[str]) -> Sequence[Step]:
        """Return the steps of a reload, in which the settings of these names differ."""
        own = [(part, [each for each in names if each in part.settings]) for part in self.parts]
        hosts = Step(apply=partial(self._change_hosts, new), changes=["hosts"] if "hosts" in names else [])
        return [hosts, *(Step(apply=part.change(new), changes=changes) for part, changes in own if changes)]

    def _show(self, _: AdminRequest) -> Response:
        return Response(body=self.status())


def _event_names(bus: Bus) -> frozenset[str | None]:
    """Return the names of the events that webhooks have to tell of.

    Those of people are none of them: a webhook that does not tell of these has roles looked up a little later.
    """
    return bus.event_names(besides=f"github-{LoginPart.name}")


async def _readable(hooks: HooksPart) -> list[ReadableHook]:
    """Return the webhooks of organizations and repositories whose deliveries may be listed."""
    return [
        ReadableHook(scope=target.scope, id=hook, client=client, route=target.list_route, values=target.values)
        for target, hook, client in await hooks.readable()
    ]
